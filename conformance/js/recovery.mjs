// Connection state recovery: what a client misses while its connection is lost comes before it is connected again, and the
// client does nothing for it.

import assert from "node:assert/strict";
import { client, collect, connected, event, fresh, join, must, run, server, test } from "./harness.mjs";

const as = (identity) => join({ auth: { client: identity } });
const numbers = (from, to) => Array.from({ length: to - from }, (_, i) => i + from);
const texts = (got) => got.map(([n]) => n);

// drop breaks the connection as a network does, and keeps it away until the function that it returns is called.
async function drop(socket) {
  const gone = event(socket, "disconnect");
  socket.io.reconnection(false);
  socket.io.engine.close();
  await gone;
  return async () => {
    socket.io.reconnection(true);
    socket.connect();
    await connected(socket);
  };
}

async function say(socket, room, from, to) {
  for (const n of numbers(from, to)) await must(socket, "send", room, "e", n);
}

// cast is ann in a room, who listens, and bob, who talks.
async function cast() {
  const room = fresh("room");
  const ann = await as(fresh("ann"));
  const bob = await as(fresh("bob"));
  await must(ann, "join", room);
  return { room, ann, bob, got: collect(ann, "e") };
}

test("what was missed comes first, in order and once; then what is live", async () => {
  const { room, ann, bob, got } = await cast();
  await say(bob, room, 0, 3);
  await got.reach(3);
  const id = ann.id;
  const back = await drop(ann);
  await say(bob, room, 3, 30);
  let before;
  ann.once("connect", () => (before = got.length));
  await back();
  assert.equal(ann.recovered, true);
  assert.equal(ann.id, id);
  assert.equal(before, 30, "events behind the connect event");
  await say(bob, room, 30, 33);
  await got.reach(33);
  assert.deepEqual(texts(got), numbers(0, 33));
});

test("a client that has received nothing yet", async () => {
  const { room, ann, bob, got } = await cast();
  const back = await drop(ann);
  await say(bob, room, 0, 3);
  await back();
  assert.equal(ann.recovered, true);
  await got.reach(3);
  assert.deepEqual(texts(got), [0, 1, 2]);
});

test("many times in a row, missing something each time or nothing", async () => {
  const { room, ann, bob, got } = await cast();
  for (let n = 0; n < 10; n += 2) {
    const back = await drop(ann);
    if (n % 4 === 0) await say(bob, room, n, n + 1);
    await back();
    assert.equal(ann.recovered, true);
    if (n % 4 !== 0) await say(bob, room, n, n + 1);
    await say(bob, room, n + 1, n + 2);
  }
  await got.reach(10);
  assert.deepEqual(texts(got), numbers(0, 10));
});

test("the server is killed, and both come back", async () => {
  const { room, ann, bob, got } = await cast();
  await say(bob, room, 0, 3);
  await got.reach(3);
  const id = ann.id;
  const back = await drop(ann);
  await say(bob, room, 3, 6);
  await server("kill");
  await server("start");
  await connected(bob);
  assert.equal(bob.recovered, true);
  await say(bob, room, 6, 9);
  await back();
  assert.equal(ann.recovered, true);
  assert.equal(ann.id, id);
  await got.reach(9);
  assert.deepEqual(texts(got), numbers(0, 9));
});

test("the server is stopped and started", async () => {
  const { room, ann, bob, got } = await cast();
  await server("stop");
  await server("start");
  await connected(ann);
  await connected(bob);
  assert.equal(ann.recovered && bob.recovered, true);
  await say(bob, room, 0, 3);
  await got.reach(3);
  assert.deepEqual(texts(got), [0, 1, 2]);
});

test("subscriptions come back too, and kept events do not disturb the live ones", async () => {
  const topic = fresh("topic");
  const { room, ann, bob, got } = await cast();
  const kept = collect(ann, "kept");
  await must(ann, "subscribe", topic);
  await say(bob, room, 0, 2);
  await must(bob, "publish", topic, "kept", 0);
  await kept.reach(1);
  const back = await drop(ann);
  await must(bob, "publish", topic, "kept", 1);
  await say(bob, room, 2, 4);
  await back();
  assert.equal(ann.recovered, true);
  await must(bob, "publish", topic, "kept", 2);
  await kept.reach(3);
  await got.reach(4);
  assert.deepEqual(texts(kept), [0, 1, 2]);
  assert.deepEqual(texts(got), [0, 1, 2, 3]);
});

test("binary events, and a client that was disconnected on purpose is a new one", async () => {
  const { room, ann, bob, got } = await cast();
  const back = await drop(ann);
  await must(bob, "send", room, "e", Buffer.from([1, 2, 3]));
  await back();
  await got.reach(1);
  assert.deepEqual([...got[0][0]], [1, 2, 3]);
  const id = ann.id;
  ann.disconnect();
  ann.connect();
  await connected(ann);
  assert.equal(ann.recovered, false);
  assert.notEqual(ann.id, id);
});

test("somebody else's session is not to be had", async () => {
  const { room, ann, bob } = await cast();
  const pid = ann._pid;
  await drop(ann);
  await say(bob, room, 0, 1);
  const eve = client({ auth: { client: fresh("eve"), pid, offset: "" } });
  const got = collect(eve, "e");
  const [gap] = await event(eve, "gap");
  assert.equal(gap.reason, "unknown");
  assert.notEqual(eve.id, ann.id);
  assert.equal(got.length, 0);
});

await run();
