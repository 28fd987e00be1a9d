#!/usr/bin/env bash
# What a program without Socket.IO does with a server, by curl alone:
#
#	holdpost serve --dev
#	examples/curl/walkthrough.sh            # or with the address of the API, and HOLDPOST_API_KEY if it wants one
set -euo pipefail
at=${1:-http://127.0.0.1:7301}

api() {
	echo "+ $*" >&2
	curl -sS --fail-with-body -H "Authorization: Bearer ${HOLDPOST_API_KEY-}" -H "Content-Type: ${type:-application/json}" "$@"
	echo
}

# Kept: it is on disk when the answer comes. The same id again stores nothing.
api "$at/v1/publish" -d '{"topic": "walk/orders", "event": "created", "args": [{"text": "a tea"}], "id": "walk-1"}'
api "$at/v1/publish" -d '{"topic": "walk/orders", "event": "created", "args": [{"text": "a tea"}], "id": "walk-1"}'

# Several at once, a result for each.
printf '%s\n' '{"topic": "walk/orders", "event": "created", "args": [2]}' '{"topic": "walk/orders", "event": "paid", "args": [2]}' |
	type=application/x-ndjson api "$at/v1/publish" --data-binary @-

# What is kept can be read, by anybody and again.
api "$at/v1/topics/walk%2Forders/events?from=first&limit=10"

# A queue holds what its workers have not done. This one began before all that.
api -X PUT "$at/v1/queues/walkers?topic=walk/orders" -d '{"from": "first", "ackTimeout": "1m"}'
taken=$(api "$at/v1/queues/walkers/pull?topic=walk/orders" -d '{"most": 1, "wait": "5s"}')
echo "$taken"
offset=$(sed 's/.*"offset":"\([^"]*\)".*/\1/' <<<"$taken")
api "$at/v1/queues/walkers/ack?topic=walk/orders" -d '{"events": [{"offset": "'"$offset"'", "attempt": 1}]}'
api "$at/v1/queues/walkers?topic=walk/orders"

# To a person: it waits in the inbox until ann is there.
api "$at/v1/publish" -d '{"topic": "inbox/ann", "event": "letter", "args": ["hello ann"]}'

# Live: whoever is not there misses it.
api "$at/v1/emit" -d '{"event": "news", "args": ["it is noon"]}'
api "$at/v1/sockets"

# It is all described, and can be taken away again.
api "$at/openapi.json" | wc -c
api -X DELETE "$at/v1/queues/walkers?topic=walk/orders"
api -X DELETE "$at/v1/topics/walk%2Forders"
echo done
