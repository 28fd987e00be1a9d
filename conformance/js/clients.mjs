// One version of the official client over one transport, through the features that a server must have for it. The version is in
// HOLDPOST_CLIENT, as a package of package.json; HOLDPOST_PARSER names the parser package, if not the default one.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { event, report, within } from "./harness.mjs";

const require = createRequire(import.meta.url);
const name = process.env.HOLDPOST_CLIENT;
const exported = require(name);
const io = exported.io ?? exported; // v2 exports the function itself
const parser = process.env.HOLDPOST_PARSER ? require(process.env.HOLDPOST_PARSER) : undefined;
const version = require(`${name}/package.json`).version.split(".").map(Number);
const url = process.env.HOLDPOST_URL;
const transport = process.env.HOLDPOST_TRANSPORT;
const transports = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] }[transport];
const v2 = version[0] < 3;
const PATIENCE = 20_000;

const open = new Set();

function client(path = "", options = {}) {
  const socket = io(url + path, { forceNew: true, transports, reconnectionDelay: 50, reconnectionDelayMax: 200, parser, ...options });
  open.add(socket);
  return socket;
}

async function join(path, options) {
  const socket = client(path, options);
  if (!socket.connected) await event(socket, "connect");
  const { engine } = socket.io;
  if (transport === "upgrade" && engine.transport.name !== "websocket") await event(engine, "upgrade");
  return socket;
}

const ask = (socket, ...args) =>
  within(PATIENCE, `answer to ${args[0]}`, new Promise((resolve) => socket.emit(...args, (...answer) => resolve(answer))));

const cases = {
  async connect() {
    const socket = await join();
    assert.equal(typeof socket.id, "string");
  },
  async auth() {
    const socket = await join("/", v2 ? { query: { name: "ann" } } : { auth: { name: "ann" } });
    assert.deepEqual(await ask(socket, "who"), [{ name: "ann" }]);
  },
  async events() {
    const socket = await join();
    const values = [1.5, "text ✓", true, null, { a: [1, { b: "c" }] }, ["x"], ""];
    const [back] = await Promise.all([event(socket, "back"), socket.emit("bounce", ...values)]);
    assert.deepEqual(back.slice(0, values.length), values); // with recovery an offset follows
  },
  async namespaces() {
    const admin = await join("/admin", v2 ? { query: { token: "sesame" } } : { auth: { token: "sesame" } });
    assert.deepEqual(await ask(admin, "where"), ["/admin"]);
  },
  async refusals() {
    for (const [path, message] of [["/admin", "not you"], ["/nowhere", "Invalid namespace"]]) {
      const socket = client(path);
      const [error] = await event(socket, v2 ? "error" : "connect_error");
      const text = typeof error === "string" ? error : error.message;
      if (v2 && path === "/admin") assert.deepEqual(error, { code: "forbidden" });
      else assert.equal(text, message);
      if (!v2 && path === "/admin") assert.deepEqual(error.data, { code: "forbidden" });
    }
  },
  async rooms() {
    const [a, b, c] = await Promise.all([join(), join(), join()]);
    await Promise.all([ask(a, "join", "lobby"), ask(b, "join", "lobby")]);
    let wrong = 0;
    c.on("said", () => wrong++);
    a.on("said", () => wrong++);
    const got = event(b, "said");
    await ask(a, "say", "lobby", "hi");
    assert.equal((await got)[0], "hi");
    await ask(a, "leave", "lobby");
    await ask(b, "say", "lobby", "gone?");
    await ask(c, "who");
    assert.equal(wrong, 0);
  },
  async acks() {
    const socket = await join();
    assert.deepEqual(await ask(socket, "echo", 1, "two", { three: 3 }), [1, "two", { three: 3 }]);
    socket.on("question", (text, answer) => answer(`${text} 42`));
    assert.deepEqual(await ask(socket, "ask me"), ["how many? 42"]);
  },
  async binary() {
    const socket = await join();
    const bytes = Buffer.from([0, 1, 2, 253, 254, 255]);
    const [back, list] = await ask(socket, "echo", bytes, [{ deep: bytes }]);
    assert.deepEqual(Buffer.from(back), bytes);
    assert.deepEqual(Buffer.from(list[0].deep), bytes);
  },
  async "big payloads"() {
    const socket = await join();
    const text = "é".repeat(300_000);
    assert.deepEqual(await ask(socket, "echo", text), [text]);
    const bytes = Buffer.alloc(600_000, 7);
    const [back] = await ask(socket, "echo", bytes);
    assert.deepEqual(Buffer.from(back), bytes);
  },
  async reconnect() {
    const socket = await join();
    const gone = event(socket, "disconnect");
    const again = new Promise((resolve) => socket.once("disconnect", () => socket.once("connect", resolve)));
    socket.io.engine.close();
    await gone;
    await within(PATIENCE, "reconnect", again);
    assert.deepEqual(await ask(socket, "echo", 1), [1]);
  },
  async recovery() {
    const [ann, bob] = await Promise.all([join(), join()]);
    await ask(ann, "join", "lobby");
    const got = [];
    ann.on("said", (n) => got.push(n));
    await ask(bob, "say", "lobby", 0);
    const id = ann.id;
    const gone = event(ann, "disconnect");
    ann.io.reconnection(false);
    ann.io.engine.close();
    await gone;
    for (const n of [1, 2, 3]) await ask(bob, "say", "lobby", n);
    ann.io.reconnection(true);
    ann.connect();
    await event(ann, "connect");
    await ask(bob, "say", "lobby", 4);
    await ask(ann, "who");
    assert.equal(ann.recovered, true);
    assert.equal(ann.id, id);
    assert.deepEqual(got, [0, 1, 2, 3, 4]);
  },
};

// Connection state recovery is a feature of clients since 4.6.
if (version[0] < 4 || (version[0] === 4 && version[1] < 6)) delete cases.recovery;

for (const [name, f] of Object.entries(cases)) {
  let error;
  try {
    await within(2 * PATIENCE, name, f());
  } catch (e) {
    error = e?.stack ?? String(e);
  }
  for (const socket of open) socket.disconnect();
  open.clear();
  report({ case: name, error });
}
process.exit(0);
