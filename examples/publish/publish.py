"""Publishes each line of its input from a Python program that speaks no Socket.IO, over the HTTP API:

	python3 publish.py orders http://127.0.0.1:7301 < lines        # HOLDPOST_API_KEY, if the server wants one
"""

import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
import uuid

topic = sys.argv[1] if len(sys.argv) > 1 else "orders"
server = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:7301"
headers = {"Content-Type": "application/json"}
if key := os.environ.get("HOLDPOST_API_KEY"):
    headers["Authorization"] = f"Bearer {key}"


def publish(topic, event, *args):
    """Stores one event, and tries for a minute if need be. The id makes that safe: it is stored once."""
    body = json.dumps({"topic": topic, "event": event, "args": args, "id": str(uuid.uuid4())}).encode()
    for attempt in range(8):
        try:
            request = urllib.request.Request(f"{server}/v1/publish", body, headers)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code < 500:  # a second try would not mend it
                raise SystemExit(json.load(error)["detail"])
        except OSError:
            pass
        time.sleep(0.25 * 2**attempt * random.uniform(0.5, 1.5))
    raise SystemExit(f"no answer from {server}")


for line in sys.stdin:
    text = line.rstrip("\n")
    print(f"stored at {publish(topic, 'created', {'text': text})['offset']}: {text}", flush=True)
