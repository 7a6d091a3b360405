#!/usr/bin/env python3
"""Receives notifications and checks who sent them. Python 3.9 or newer, nothing else.

WEBHOOK_SECRET=test-secret python3 receiver.py 127.0.0.1:8081
"""
import hashlib
import hmac
import json
import os
import signal
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

BODY_BYTES_MAX = 1 << 20
CLOCK_SKEW_SECONDS_MAX = 300
REMEMBERED_MAX = 10_000


class Refused(Exception):
    """A status code, and why."""


def verify(secret, signature, timestamp, body):
    """Raises Refused unless someone who knows the secret signed these very bytes."""
    signed = body
    if timestamp is not None:
        seconds = int(timestamp) if timestamp.isdecimal() and len(timestamp) <= 12 else 0
        if abs(time.time() - seconds) > CLOCK_SKEW_SECONDS_MAX:
            raise Refused(401, "timestamp too far off")
        signed = timestamp.encode() + b"." + body
    expected = hmac.new(secret, signed, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), (signature or "").encode()):
        raise Refused(401, "missing or wrong signature")


class Receiver(BaseHTTPRequestHandler):
    protocol_version, timeout = "HTTP/1.1", 30
    secret = os.environ.get("WEBHOOK_SECRET", "").encode()
    seen, lock = {}, Lock()

    def do_POST(self):
        try:
            line, status = self.accept(), 204
        except Refused as refused:
            status, why = refused.args
            line = f"refused: {why}"
        print(line + "\n", end="", flush=True)
        self.send_response(status)
        if status == 413:
            self.send_header("Connection", "close")
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()
        for _ in range(256 if status == 413 else 0):  # let the body pass, or nobody reads the answer
            if not self.rfile.read1(1 << 16):
                break

    def accept(self):
        length, headers = self.headers.get("Content-Length", ""), self.headers
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            raise Refused(413, "body too large, or of unknown length")
        body = self.rfile.read(int(length))
        verify(self.secret, headers["X-O2IMS-Signature"], headers["X-O2IMS-Timestamp"], body)
        try:
            event = json.loads(body)
        except (ValueError, RecursionError):
            event = None
        # The headers are not signed, the body is: an id has to be the same in both.
        # Header values are UTF-8, which http.server reads as Latin-1.
        id = headers.get("X-O2IMS-Notification-ID", "").encode("latin-1", "replace").decode("utf-8", "replace")
        if not isinstance(event, dict) or not id or event.get("notificationId", id) != id:
            raise Refused(400, "not a notification")
        # Here the work is done. Where it can fail, remember the id only after it succeeded.
        word = "verified" if self.first_time(id) else "duplicate"
        return f"{word} {headers['X-O2IMS-Event-Type']} {id} {headers['X-O2IMS-Subscription-ID']}"

    def first_time(self, id):
        with self.lock:
            first = id not in self.seen
            self.seen[id] = True
            if len(self.seen) > REMEMBERED_MAX:
                del self.seen[next(iter(self.seen))]  # the oldest
            return first

    def log_message(self, *_):
        """One line per notification is enough."""


if __name__ == "__main__":
    if not Receiver.secret or len(sys.argv) != 2:
        sys.exit("usage: WEBHOOK_SECRET=… python3 receiver.py 127.0.0.1:8081")
    host, port = sys.argv[1].rsplit(":", 1)
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer((host, int(port)), Receiver)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        print(f"listening on http://{host}:{server.server_port}", flush=True)
        server.serve_forever()
