#!/usr/bin/env python3
"""Publishes one event to Redis. Python 3.9 or newer, nothing else.

python3 publish.py redis://127.0.0.1:6379 http://127.0.0.1:8081/notify [subscription-id]
"""
import json
import socket
import sys
import uuid
from datetime import datetime, timezone
from urllib.parse import unquote, urlsplit


def event(callback_url, subscription_id):
    return {
        "subscriptionId": subscription_id,
        "notificationEventType": "o2ims.Resource.Created",
        "objectRef": "/o2ims/v1/resources/node-1",
        "resourceTypeId": "k8s-node",
        "resourcePoolId": "pool-1",
        "globalResourceId": "node-1",
        "timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "notificationId": f"notif-{uuid.uuid4()}",
        "callbackUrl": callback_url,
    }


def call(redis, *words):
    """Sends one command as an array of strings and returns the string of its answer."""
    words = [word.encode() for word in words]
    redis.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    redis.flush()
    kind, rest = redis.read(1), redis.readline().decode().strip()
    if kind == b"$":
        return redis.read(int(rest) + 2).decode().strip()
    if kind == b"+":
        return rest
    sys.exit(f"redis: {rest or 'connection closed'}")


def publish(redis_url, callback_url, subscription_id="sub-67890"):
    url = urlsplit(redis_url)
    with socket.create_connection((url.hostname, url.port or 6379), timeout=5) as connection:
        redis = connection.makefile("rwb")
        credentials = [unquote(word) for word in (url.username, url.password) if word]
        if credentials:
            call(redis, "AUTH", *credentials)
        if url.path.strip("/"):
            call(redis, "SELECT", url.path.strip("/"))
        body = json.dumps(event(callback_url, subscription_id), separators=(",", ":"))
        return call(redis, "XADD", "o2ims:events", "MAXLEN", "~", "10000", "*", "event", body)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or not sys.argv[1].startswith("redis://"):
        sys.exit("usage: publish.py redis://127.0.0.1:6379 <callback-url> [subscription-id]")
    try:
        print(publish(*sys.argv[1:]))
    except OSError as error:
        sys.exit(f"redis: {error}")
