"""The client for Python over one transport, through the features of clients.mjs that it has."""

import json
import os
import sys
import threading

import socketio

URL = os.environ["HOLDPOST_URL"]
TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": None}[os.environ["HOLDPOST_TRANSPORT"]]
PATIENCE = 20


class Guest:
    """A client in one or more namespaces, and the events that came."""

    def __init__(self, namespaces=("/",), auth=None):
        self.client = socketio.Client(reconnection_delay=0.05, reconnection_delay_max=0.2)
        self.client.on("question", lambda text: f"{text} 42")
        self.refused = {}
        for n in namespaces:
            self.client.on("connect_error", lambda data, n=n: self.refused.setdefault(n, data), namespace=n)
        self.client.connect(URL, auth=auth, namespaces=list(namespaces), transports=TRANSPORTS, wait_timeout=PATIENCE)

    def ask(self, *message, namespace="/"):
        name, *args = message
        return self.client.call(name, tuple(args) if args else None, namespace=namespace, timeout=PATIENCE)

    def collect(self, name):
        got, more = [], threading.Event()

        def take(*args):
            got.append(args)
            more.set()

        self.client.on(name, take)
        return got, more

    def close(self):
        self.client.disconnect()


def connect():
    g = Guest()
    assert g.client.connected and g.client.get_sid("/")
    return [g]


def auth():
    g = Guest(auth={"name": "ann"})
    assert g.ask("who") == {"name": "ann"}
    return [g]


def events():
    g = Guest()
    values = [1.5, "text ✓", True, None, {"a": [1, {"b": "c"}]}, ["x"], ""]
    got, more = g.collect("back")
    g.client.emit("bounce", tuple(values))
    assert more.wait(PATIENCE)
    assert list(got[0][: len(values)]) == values, got
    return [g]


def namespaces():
    g = Guest(namespaces=["/admin"], auth={"token": "sesame"})
    assert g.ask("where", namespace="/admin") == "/admin"
    return [g]


def refusals():
    for namespace, message in (("/admin", "not you"), ("/nowhere", "Invalid namespace")):
        try:
            Guest(namespaces=[namespace])
        except socketio.exceptions.ConnectionError:
            continue
        raise AssertionError(f"{namespace}: not refused with {message}")
    return []


def rooms():
    a, b = Guest(), Guest()
    got, more = b.collect("said")
    a.ask("join", "lobby")
    b.ask("join", "lobby")
    a.ask("say", "lobby", "hi")
    assert more.wait(PATIENCE)
    assert got[0][0] == "hi"
    return [a, b]


def acks():
    g = Guest()
    assert list(g.ask("echo", 1, "two", {"three": 3})) == [1, "two", {"three": 3}]
    assert g.ask("ask me") == "how many? 42"
    return [g]


def binary():
    g = Guest()
    data = bytes([0, 1, 2, 253, 254, 255])
    back, items = g.ask("echo", data, [{"deep": data}])
    assert back == data and items[0]["deep"] == data
    return [g]


def big_payloads():
    g = Guest()
    text = "é" * 150_000  # six bytes each, as this client writes them
    assert g.ask("echo", text) == text
    data = bytes([7]) * 600_000
    assert g.ask("echo", data) == data
    return [g]


def reconnect():
    g = Guest()
    gone, back = threading.Event(), threading.Event()
    g.client.on("disconnect", lambda *_: gone.set())
    g.client.on("connect", lambda: back.set())
    back.clear()
    g.client.emit("cut me")
    assert gone.wait(PATIENCE) and back.wait(PATIENCE)
    assert g.ask("echo", 1) == 1
    return [g]


failed = False
for name, case in {
    "connect": connect,
    "auth": auth,
    "events": events,
    "namespaces": namespaces,
    "refusals": refusals,
    "rooms": rooms,
    "acks": acks,
    "binary": binary,
    "big payloads": big_payloads,
    "reconnect": reconnect,
}.items():
    result = {"case": name}
    try:
        for guest in case():
            guest.close()
    except Exception as e:  # whatever it is, it is the case's outcome
        result["error"] = f"{type(e).__name__}: {e}"
    print(json.dumps(result), flush=True)
os._exit(0)  # threads of a client that is stuck do not hold the process
