// The library behind a Go program: namespaces, gates, acks in both directions.

import assert from "node:assert/strict";
import { ask, client, collect, connected, event, fresh, join, refused, run, test } from "./harness.mjs";

test("an ack brings back what was sent, binary too", async () => {
  const socket = await join();
  for (const args of [[], [null], [1.5, "ü\u2028", true, [1, { a: [] }]], [Buffer.from([0, 255]), { deep: Buffer.alloc(3) }]]) {
    const got = await new Promise((resolve) => socket.emit("echo", ...args, (...answer) => resolve(answer)));
    assert.deepEqual(got, args);
  }
});

test("a typed call", async () => {
  const socket = await join();
  const image = Buffer.from([1, 2]);
  assert.deepEqual(await ask(socket, "measure", { name: "ann", image }), { name: "ann", bytes: 2, again: image });
  await refused("invalid_argument", socket, "measure", { name: 7 });
  await refused("invalid_argument", socket, "measure", "ann");
});

test("errors reach the client by their code, and what is nobody's business does not", async () => {
  const socket = await join();
  assert.deepEqual(await ask(socket, "coded"), { error: { code: "too_late", message: "the kitchen is closed" } });
  assert.deepEqual(await ask(socket, "uncoded"), { error: { code: "internal", message: "internal error" } });
  await assert.rejects(socket.timeout(200).emitWithAck("nobody handles this"), "it has an answer");
});

test("a handler that panics ends its socket, and no other", async () => {
  const [ann, bob] = await Promise.all([join(), join()]);
  const gone = event(ann, "disconnect");
  assert.deepEqual(await ask(ann, "panic"), { error: { code: "internal", message: "internal error" } });
  assert.equal((await gone)[0], "io server disconnect");
  assert.equal(await ask(bob, "echo", 1), 1);
});

test("the server asks, while it handles an event of the same socket", async () => {
  const socket = await join();
  socket.on("question", (text, answer) => answer(text.length));
  assert.equal(await ask(socket, "ask me"), "how many?".length);
});

test("the server asks many, and names who did not answer", async () => {
  const room = fresh("room");
  const all = await Promise.all([join(), join(), join()]);
  for (const socket of all) await ask(socket, "join", room);
  for (const socket of all.slice(1)) socket.on("question", (_, answer) => answer("me"));
  const got = await new Promise((resolve) => all[0].emit("ask all", room, 500, (...answer) => resolve(answer)));
  assert.deepEqual([got[0].sort(), got[1]], [all.slice(1).map((s) => s.id).sort(), [all[0].id]]);
});

test("namespaces share a connection and nothing else", async () => {
  const main = await join({ auth: { token: "sesame" } });
  const admin = main.io.socket("/admin", { auth: { token: "sesame" } });
  const [id] = await event(admin, "welcome");
  await connected(admin);
  assert.equal(admin.id, id);
  assert.notEqual(admin.id, main.id);
  const other = await join({ path: "/admin", auth: { token: "sesame" } });
  const heard = [collect(admin, "said"), collect(other, "said")];
  main.on("said", () => assert.fail("heard another namespace"));
  admin.emit("everybody", "hello", Buffer.from([7]));
  await Promise.all(heard.map((h) => h.reach(1)));
  for (const h of heard) assert.deepEqual(h[0], ["hello", Buffer.from([7])]);
  await assert.rejects(admin.timeout(200).emitWithAck("echo", 1), "it has an answer");
  admin.disconnect();
  assert.equal(await ask(main, "echo", "still here"), "still here");
});

test("a gate refuses with a message and data, and lets in who comes with the right ones", async () => {
  const socket = client({ path: "/admin", auth: { token: "please" } });
  const [error] = await event(socket, "connect_error");
  assert.equal(error.message, "not you");
  assert.deepEqual(error.data, { code: "forbidden", retry: false });
  assert.equal(socket.connected, false);
  assert.equal(socket.active, false, "a refused client does not come back by itself");
  socket.auth = { token: "sesame" };
  socket.connect();
  await event(socket, "welcome");
});

test("a namespace that does not exist", async () => {
  const socket = client({ path: "/nowhere" });
  const [error] = await event(socket, "connect_error");
  assert.equal(error.message, "Invalid namespace");
});

test("a client that the server disconnects does not come back by itself", async () => {
  const socket = await join();
  const gone = event(socket, "disconnect");
  socket.emit("leave me alone");
  const [reason] = await gone;
  assert.equal(reason, "io server disconnect");
  assert.equal(socket.active, false);
  socket.connect();
  await connected(socket);
  assert.equal(await ask(socket, "echo", 1), 1);
});

await run();
