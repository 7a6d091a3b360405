#!/bin/sh
# Publishes one event to Redis with redis-cli:
#   publish.sh redis://127.0.0.1:6379 http://127.0.0.1:8081/notify [subscription-id]
set -eu
[ $# -ge 2 ] || { echo "usage: publish.sh redis://127.0.0.1:6379 <callback-url> [subscription-id]" >&2; exit 1; }

event=$(printf '{"subscriptionId":"%s","notificationEventType":"o2ims.Resource.Created","objectRef":"/o2ims/v1/resources/node-1","resourceTypeId":"k8s-node","resourcePoolId":"pool-1","globalResourceId":"node-1","timestamp":"%s","notificationId":"notif-%s","callbackUrl":"%s"}' \
    "${3:-sub-67890}" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(cat /proc/sys/kernel/random/uuid)" "$2")
exec redis-cli --raw --no-auth-warning -e -u "$1" XADD o2ims:events MAXLEN '~' 10000 '*' event "$event"
