// What the scripts share. A script is started by the Go test with the server's address in HOLDPOST_URL and the transport in
// HOLDPOST_TRANSPORT. It writes one line of JSON for each test, and asks the Go test on stdin and stdout for what only that
// can do: kill and start the server.

import assert from "node:assert/strict";
import readline from "node:readline";
import { io } from "socket.io-client";

export const url = process.env.HOLDPOST_URL;
export const transport = process.env.HOLDPOST_TRANSPORT ?? "upgrade";

const PATIENCE = 20_000;
const transports = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] }[transport];

const cases = [];
const open = new Set();

// test registers a case; they run one after the other, each with clients of its own.
export function test(name, f) {
  cases.push({ name, f });
}

export async function run() {
  const chosen = cases.filter(({ name }) => name.includes(process.env.HOLDPOST_ONLY ?? ""));
  for (const { name, f } of chosen) {
    let error;
    try {
      await within(6 * PATIENCE, name, f());
    } catch (e) {
      error = e?.stack ?? String(e);
    }
    for (const socket of open) socket.disconnect();
    open.clear();
    if (error && url) await server("up").catch(() => {});
    report({ case: name, error });
  }
  requests.close();
  process.stdin.destroy();
}

export function report(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

// ---------------------------------------------------------------------------------------------------------------------

const requests = readline.createInterface({ input: process.stdin });
const waiting = [];
requests.on("line", (line) => waiting.shift()?.(JSON.parse(line)));

// server asks the Go test to "kill", "stop" or "start" the server ("up": to start it if it does not run) and waits until that is done.
export async function server(action) {
  const answer = new Promise((resolve) => waiting.push(resolve));
  report({ server: action });
  const { error } = await answer;
  assert.equal(error, undefined);
}

// ---------------------------------------------------------------------------------------------------------------------

// client makes a socket with the transport at hand. It connects by itself unless the options say otherwise.
export function client({ path = "", ...options } = {}) {
  const socket = io(url + path, {
    forceNew: true,
    transports,
    reconnectionDelay: 50,
    reconnectionDelayMax: 200,
    ...options,
  });
  open.add(socket);
  return socket;
}

// connected waits until a socket is connected, over the transport that it is to have in the end.
export async function connected(socket) {
  if (!socket.connected) await event(socket, "connect");
  const engine = socket.io.engine;
  if (transport === "upgrade" && engine.transport.name !== "websocket") await event(engine, "upgrade");
  return socket;
}

export function join(options) {
  return connected(client(options));
}

// event waits for one event and returns its arguments.
export function event(emitter, name) {
  return within(PATIENCE, `event ${name}`, new Promise((resolve) => emitter.once(name, (...args) => resolve(args))));
}

// ask emits and returns the answer, whatever it is.
export function ask(socket, ...message) {
  return socket.timeout(PATIENCE).emitWithAck(...message);
}

// must emits and returns the answer, which must be no error.
export async function must(socket, ...message) {
  const answer = await ask(socket, ...message);
  assert.equal(answer?.error, undefined, `${JSON.stringify(message.slice(0, 2))}: ${JSON.stringify(answer)}`);
  return answer;
}

// refused emits and checks that the answer is an error with this code and nothing else.
export async function refused(code, socket, ...message) {
  const answer = await ask(socket, ...message);
  assert.deepEqual(Object.keys(answer), ["error"], JSON.stringify(answer));
  assert.deepEqual(Object.keys(answer.error).sort(), ["code", "message"]);
  assert.equal(answer.error.code, code, answer.error.message);
  assert.equal(typeof answer.error.message, "string");
  assert.notEqual(answer.error.message, "");
}

// insist publishes until it is known to be stored: through lost connections, under the same id.
export async function insist(socket, target, name, ...args) {
  const deadline = Date.now() + 3 * PATIENCE;
  for (;;) {
    let answer;
    try {
      answer = await socket.timeout(2000).emitWithAck("publish", target, name, ...args);
    } catch {
      answer = { error: { code: "no answer" } };
    }
    if (!answer.error) return answer;
    const again = ["no answer", "unknown_outcome", "unavailable", "closed"].includes(answer.error.code);
    assert.ok(again && Date.now() < deadline, `publish: ${JSON.stringify(answer)}`);
    await connected(socket);
  }
}

// collect keeps what arrives under one event name and lets one wait for a number of them.
export function collect(socket, name) {
  const got = [];
  let check = () => {};
  socket.on(name, (...args) => {
    got.push(args);
    check();
  });
  got.reach = (count, ms = 2 * PATIENCE) =>
    within(ms, () => `${count} × ${name}, got ${got.length}`, new Promise((resolve) => {
      check = () => got.length >= count && resolve(got);
      check();
    }));
  return got;
}

export function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    const error = new Error("timeout");
    timer = setTimeout(() => {
      error.message = `nothing after ${ms} ms: ${typeof what === "function" ? what() : what}`;
      reject(error);
    }, ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// pause is for the few tests that show that something does not happen.
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let names = 0;

// fresh returns a name that no other case and no other run has used on this server.
export const fresh = (prefix) => `${prefix}-${transport}-${process.pid}-${names++}`;

// awkward are names that have broken servers and clients before.
export const awkward = [
  "__proto__", "constructor", "prototype", "toString", "valueOf", "hasOwnProperty", "__defineGetter__", "null", "undefined",
  "NaN", "true", "-1", "0", "1e9", ".", "..", "/", "//", "*", ">", "#", "+", "$SYS", "_INBOX", "%s%n", "%00", "a b", "\u2028",
  "\u202e", "ﬀ", "é", "e\u0301", "🦊", "日本語", '"', "\\", "<script>", "x".repeat(255),
];
