// The live half: what a Socket.IO client expects of any server, and the operations join, leave and send. The server has
// recovery on, so the last argument of every event is its offset.

import assert from "node:assert/strict";
import { ask, awkward, client, collect, connected, event, fresh, join, must, pause, refused, run, server, test, transport } from "./harness.mjs";

// sent returns the arguments of an event as they were sent: without the offset, which must be there.
function sent(args) {
  assert.match(args.at(-1), /^~[A-Za-z0-9_-]+$/);
  return args.slice(0, -1);
}

test("connect", async () => {
  const socket = await join();
  assert.equal(socket.io.engine.transport.name, transport === "polling" ? "polling" : "websocket");
  assert.match(socket.id, /^[A-Za-z0-9_-]{20,}$/);
  assert.notEqual(socket.id, socket.io.engine.id, "the public id is the secret of the session");
  assert.equal(socket.recovered, false);
  const other = await join();
  assert.notEqual(other.id, socket.id);
});

test("a room hears what others send to it", async () => {
  const room = fresh("room");
  const [ann, bob, eve] = await Promise.all([join(), join(), join()]);
  assert.deepEqual(await must(ann, "join", room), { room });
  assert.deepEqual(await must(bob, "join", room), { room });
  for (const socket of [ann, eve]) socket.on("chat", () => assert.fail("heard what was not sent to it"));
  const heard = collect(bob, "chat");
  assert.deepEqual(await must(ann, "send", room, "chat", { text: "hi", n: 1.5, ok: true, nothing: null }, [1, [2]], "ünï 🦊 <&>\u2028"), { room });
  await heard.reach(1);
  assert.deepEqual(sent(heard[0]), [{ text: "hi", n: 1.5, ok: true, nothing: null }, [1, [2]], "ünï 🦊 <&>\u2028"]);
  await must(eve, "send", room, "no arguments");
  ann.off("chat");
  const both = [collect(ann, "second"), collect(bob, "second")];
  await must(eve, "send", room, "second", 2);
  await Promise.all(both.map((c) => c.reach(1)));
});

test("who has left hears nothing", async () => {
  const room = fresh("room");
  const [ann, bob] = await Promise.all([join(), join()]);
  await must(bob, "join", room);
  assert.deepEqual(await must(bob, "leave", room), { room });
  bob.on("chat", () => assert.fail("heard a room that it left"));
  await must(ann, "send", room, "chat", 1);
  await must(bob, "join", room);
  const heard = collect(bob, "after");
  await must(ann, "send", room, "after", 2);
  await heard.reach(1);
});

test("binary, both ways", async () => {
  const room = fresh("room");
  const [ann, bob] = await Promise.all([join(), join()]);
  await must(bob, "join", room);
  const heard = collect(bob, "file");
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  const large = Buffer.alloc(100_000, 0xa7);
  await must(ann, "send", room, "file", bytes, { deep: [new Uint8Array([1, 2, 3]), "text"] }, Buffer.alloc(0), large);
  await must(ann, "send", room, "file", "text between");
  await must(ann, "send", room, "file", { _placeholder: "no placeholder", num: 7 });
  await must(ann, "send", room, "file", new Float64Array([0.5]).buffer, bytes, bytes);
  await heard.reach(4);
  assert.deepEqual(sent(heard[0]), [bytes, { deep: [Buffer.from([1, 2, 3]), "text"] }, Buffer.alloc(0), large]);
  assert.deepEqual(sent(heard[1]), ["text between"]);
  assert.deepEqual(sent(heard[2]), [{ _placeholder: "no placeholder", num: 7 }]);
  assert.deepEqual(sent(heard[3]), [Buffer.from(new Float64Array([0.5]).buffer), bytes, bytes]);
});

test("awkward names for rooms, events and members", async () => {
  const [ann, bob] = await Promise.all([join(), join()]);
  const prefix = fresh("").slice(0, 40);
  for (const name of awkward) {
    const room = (prefix + name).slice(-255);
    await must(bob, "join", room);
    const heard = collect(bob, name);
    const payload = JSON.parse(`{${JSON.stringify(name)}: ${JSON.stringify(name)}}`);
    await must(ann, "send", room, name, payload, name);
    await heard.reach(1);
    assert.deepEqual(sent(heard[0]), [payload, name]);
    await must(bob, "leave", room);
  }
});

test("a thousand pipelined sends arrive in order", async () => {
  const room = fresh("room");
  const [ann, bob] = await Promise.all([join(), join()]);
  await must(bob, "join", room);
  const heard = collect(bob, "n");
  const answers = [];
  for (let i = 0; i < 1000; i++) answers.push(must(ann, "send", room, "n", i, i % 10 === 0 ? Buffer.from([i & 255]) : "x".repeat(i % 100)));
  await Promise.all(answers);
  await heard.reach(1000);
  assert.deepEqual(heard.map(([i]) => i), Array.from({ length: 1000 }, (_, i) => i));
  assert.ok(heard.every(([i, v]) => (i % 10 === 0 ? v.equals(Buffer.from([i & 255])) : v.length === i % 100)));
});

test("events sent before the connection stands come first, in order", async () => {
  const room = fresh("room");
  const bob = await join();
  await must(bob, "join", room);
  const heard = collect(bob, "n");
  const ann = client({ autoConnect: false });
  for (let i = 0; i < 50; i++) ann.emit("send", room, "n", i);
  ann.connect();
  await connected(ann);
  await must(ann, "send", room, "n", 50);
  await heard.reach(51);
  assert.deepEqual(heard.map(([i]) => i), Array.from({ length: 51 }, (_, i) => i));
});

test("an unknown namespace is refused, the connection stays", async () => {
  const socket = await join();
  for (const name of ["/random", "/admin/../x", "/a?b=c", "/é", "/%00"]) {
    const other = socket.io.socket(name);
    const [error] = await event(other, "connect_error");
    assert.equal(error.message, "Invalid namespace");
    assert.equal(other.connected, false);
    other.disconnect();
  }
  const room = fresh("room");
  assert.deepEqual(await must(socket, "join", room), { room });
});

test("operations with bad arguments are answered with a code", async () => {
  const socket = await join();
  await refused("invalid_argument", socket, "join");
  await refused("invalid_argument", socket, "join", 7);
  await refused("invalid_argument", socket, "join", { room: "x" });
  await refused("invalid_argument", socket, "leave", null);
  await refused("invalid_argument", socket, "send", "room");
  await refused("invalid_argument", socket, "send", "room", 7);
  await refused("invalid_name", socket, "join", "x".repeat(256));
  await refused("invalid_name", socket, "send", "room", "disconnect");
  await refused("invalid_name", socket, "send", "room", "x".repeat(256));
  await refused("unknown_event", socket, "no such operation", 1);
  await refused("invalid_argument", socket, "subscribe", { topic: "t", form: "first" });
  await refused("invalid_argument", socket, "subscribe", { topic: "t", ack: "maybe" });
  await refused("invalid_queue", socket, "subscribe", { topic: "t", queue: "x".repeat(256) });
  await refused("invalid_topic", socket, "subscribe", "");
  await refused("invalid_topic", socket, "publish", "x".repeat(256), "created");
  await refused("invalid_argument", socket, "publish", "topic");
  await refused("invalid_event", socket, "publish", "topic", "connect");
  await refused("invalid_offset", socket, "history", { topic: "topic", from: "yesterday" });
  await refused("invalid_argument", socket, "publish", { topic: "t", delay: "later" }, "created");
  const room = fresh("room");
  assert.deepEqual(await must(socket, "join", room), { room }); // still alive
});

test("an event without ack is taken too, an unknown one is ignored", async () => {
  const room = fresh("room");
  const [ann, bob] = await Promise.all([join(), join()]);
  bob.emit("join", room);
  await must(bob, "join", fresh("other")); // events of one socket are handled in order
  const heard = collect(bob, "chat");
  ann.emit("nobody listens", 1);
  ann.emit("join", 7);
  ann.emit("send", room, "chat", 1);
  await heard.reach(1);
});

test("a payload beyond the limit ends the connection, and the client comes back", async () => {
  const socket = await join();
  const gone = event(socket, "disconnect");
  socket.emit("send", "room", "big", "x".repeat(1_000_001));
  const [reason] = await gone;
  assert.match(reason, /^transport (close|error)$/);
  await connected(socket);
  await must(socket, "join", fresh("room"));
});

test("a payload just below the limit passes", async () => {
  const room = fresh("room");
  const [ann, bob] = await Promise.all([join(), join()]);
  await must(bob, "join", room);
  const heard = collect(bob, "big");
  const text = "x".repeat(990_000);
  await must(ann, "send", room, "big", text);
  await heard.reach(1);
  assert.equal(heard[0][0], text);
});

test("what is no packet ends the connection, and the client comes back", async () => {
  for (const text of ["abc", "2{}", "2[]", "", '2["connect"]', "9", '50-["x"]', '4{"message":"x"}', '2abc["x"]', '212"x"']) {
    const socket = await join();
    const id = socket.id;
    const gone = event(socket, "disconnect");
    socket.io.engine.send(text);
    const [reason] = await gone;
    assert.match(reason, /^transport (close|error)$/, text);
    await connected(socket);
    assert.deepEqual([socket.recovered, socket.id], [true, id], "a broken connection is found again");
    socket.disconnect();
  }
});

test("a lost connection is found again, and what was emitted meanwhile is sent", async () => {
  const room = fresh("room");
  const [ann, bob] = await Promise.all([join(), join()]);
  await must(bob, "join", room);
  const heard = collect(bob, "chat");
  const id = ann.id;
  const gone = event(ann, "disconnect");
  ann.io.engine.close();
  const [reason] = await gone;
  assert.match(reason, /^(forced close|transport close)$/);
  const answer = must(ann, "send", room, "chat", "buffered");
  await connected(ann);
  assert.deepEqual([ann.recovered, ann.id], [true, id]);
  assert.deepEqual(await answer, { room });
  await heard.reach(1);
  assert.deepEqual(sent(heard[0]), ["buffered"]);
});

test("a client that disconnects is gone at once", async () => {
  const room = fresh("room");
  const [ann, bob] = await Promise.all([join(), join()]);
  await must(bob, "join", room);
  bob.on("chat", () => assert.fail("heard after disconnect"));
  bob.disconnect();
  await must(ann, "send", room, "chat", 1);
  bob.connect();
  await connected(bob);
  await must(bob, "join", room);
  bob.off("chat");
  const heard = collect(bob, "chat");
  await must(ann, "send", room, "chat", 2);
  await heard.reach(1);
  assert.deepEqual(sent(heard[0]), [2]);
});

test("a hundred clients in one room", async () => {
  const room = fresh("room");
  const all = await Promise.all(Array.from({ length: 100 }, () => join()));
  await Promise.all(all.map((socket) => must(socket, "join", room)));
  const heard = all.map((socket) => collect(socket, "chat"));
  await must(all[0], "send", room, "chat", "hello", Buffer.from("bytes"));
  await Promise.all(heard.slice(1).map((h) => h.reach(1)));
  assert.equal(heard[0].length, 0);
  assert.ok(heard.slice(1).every((h) => h.length === 1 && h[0][0] === "hello" && h[0][1].toString() === "bytes"));
});

test("a server that stops says so, and its clients come back to the next one", async () => {
  const [ann, bob] = await Promise.all([join(), join()]);
  const gone = Promise.all([event(ann, "disconnect"), event(bob, "disconnect")]);
  await server("stop");
  for (const [reason] of await gone) assert.match(reason, /^(io server disconnect|transport close|transport error)$/);
  await server("start");
  for (const socket of [ann, bob]) if (!socket.active) socket.connect(); // after a DISCONNECT the client does not by itself
  const room = fresh("room");
  await Promise.all([connected(ann), connected(bob)]);
  await must(bob, "join", room);
  const heard = collect(bob, "chat");
  await must(ann, "send", room, "chat", 1);
  await heard.reach(1);
});

test("a server that is killed is missed only until the next one stands", async () => {
  const socket = await join();
  const gone = event(socket, "disconnect");
  await server("kill");
  const [reason] = await gone;
  assert.match(reason, /^transport (close|error)$/);
  await pause(300); // some attempts fail
  await server("start");
  await connected(socket);
  await must(socket, "join", fresh("room"));
});

test("nothing is answered twice", async () => {
  const socket = await join();
  const room = fresh("room");
  let answers = 0;
  for (let i = 0; i < 20; i++) socket.emit("join", room, () => answers++);
  await must(socket, "join", room);
  assert.equal(answers, 20);
  assert.deepEqual(await ask(socket, "leave", room), { room });
  assert.equal(answers, 20);
});

await run();
