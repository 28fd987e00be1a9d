// The held half: topics, personal queues, and a server that is killed in between.

import assert from "node:assert/strict";
import { client, collect, connected, fresh, insist, join, must, pause, refused, run, server, test } from "./harness.mjs";

const as = (identity) => join({ auth: { client: identity } });
const numbers = (n, from = 0) => Array.from({ length: n }, (_, i) => i + from);

// arrivals waits until the events with the numbers 0 … count-1 have all come, and checks that each came once and in order.
// What arrives again with an offset that was seen already is a repeat, which at-least-once delivery allows where said so.
async function arrivals(got, count, { repeats = 0, reach = count } = {}) {
  await got.reach(reach);
  const seen = new Set();
  const order = [];
  let repeated = 0;
  for (const args of got) {
    const offset = args.at(-1);
    assert.match(offset, /^~/, "the last argument is no offset");
    if (seen.has(offset)) repeated++;
    else order.push(args[0].n);
    seen.add(offset);
  }
  assert.deepEqual(order, numbers(order.length));
  assert.ok(repeated <= repeats, `${repeated} repeats`);
  if (order.length < count) return arrivals(got, count, { repeats, reach: got.length + count - order.length });
  assert.equal(order.length, count);
}

test("publish answers with topic, offset, id and duplicate", async () => {
  const topic = fresh("topic");
  const socket = await join();
  const first = await must(socket, "publish", topic, "created", { n: 0 });
  assert.deepEqual(Object.keys(first).sort(), ["duplicate", "id", "offset", "topic"]);
  assert.equal(first.topic, topic);
  assert.equal(first.duplicate, false);
  assert.match(first.offset, /^~[A-Za-z0-9_-]+$/);
  assert.notEqual(first.id, "");
  const second = await must(socket, "publish", { topic, id: "mine" }, "created", { n: 1 });
  assert.equal(second.id, "mine");
  assert.notEqual(second.offset, first.offset);
});

test("the same id again is a duplicate, with another payload a conflict", async () => {
  const topic = fresh("topic");
  const socket = await join();
  const first = await must(socket, "publish", { topic, id: "order-7" }, "created", { id: 7 });
  const again = await must(socket, "publish", { topic, id: "order-7" }, "created", { id: 7 });
  assert.deepEqual(again, { ...first, duplicate: true });
  await refused("conflict", socket, "publish", { topic, id: "order-7" }, "created", { id: 8 });
  await refused("conflict", socket, "publish", { topic, id: "order-7" }, "deleted", { id: 7 });
  const other = await must(socket, "publish", { topic: fresh("topic"), id: "order-7" }, "created", { id: 8 });
  assert.equal(other.duplicate, false, "an id counts within its topic");
  const { events } = await must(socket, "history", topic);
  assert.equal(events.length, 1);
  await server("kill");
  await server("start");
  assert.deepEqual(await insist(socket, { topic, id: "order-7" }, "created", { id: 7 }), { ...first, duplicate: true });
  await refused("conflict", socket, "publish", { topic, id: "order-7" }, "created", { id: 8 });
});

test("history, page by page", async () => {
  const topic = fresh("topic");
  const socket = await join();
  assert.deepEqual((await must(socket, "history", topic)).events, []);
  const published = [];
  for (const n of numbers(25)) published.push(await must(socket, "publish", topic, "created", { n }, [n]));
  const events = [];
  let from = "first";
  for (let pages = 1; ; pages++) {
    const page = await must(socket, "history", { topic, from, limit: 10 });
    assert.deepEqual(Object.keys(page).sort(), ["complete", "events", "next"]);
    events.push(...page.events);
    if (page.complete) {
      assert.equal(pages, 3);
      break;
    }
    from = page.next;
  }
  assert.deepEqual(events.map((e) => e.args), numbers(25).map((n) => [{ n }, [n]]));
  assert.deepEqual(events.map((e) => e.offset), published.map((p) => p.offset));
  assert.deepEqual(events.map((e) => e.id), published.map((p) => p.id));
  assert.ok(events.every((e) => e.topic === topic && e.event === "created" && Math.abs(Date.now() - Date.parse(e.publishedAt)) < 60_000));
  const after = await must(socket, "history", { topic, from: published[19].offset });
  assert.deepEqual(after.events.map((e) => e.args[0].n), [20, 21, 22, 23, 24]);
  const since = await must(socket, "history", { topic, from: events[5].publishedAt });
  assert.ok(since.events.some((e) => e.offset === events[5].offset));
});

test("a subscriber gets what is published, in order, to each identity its own", async () => {
  const topic = fresh("topic");
  const [ann, bob, pub] = await Promise.all([as(fresh("ann")), as(fresh("bob")), join()]);
  const got = [collect(ann, "created"), collect(bob, "created")];
  const answer = await must(ann, "subscribe", topic);
  assert.deepEqual(Object.keys(answer).sort(), ["offset", "queue", "topic", "unread"]);
  assert.equal(answer.unread, 0);
  await must(bob, "subscribe", { topic });
  for (const n of numbers(50)) await must(pub, "publish", topic, "created", { n });
  for (const g of got) await arrivals(g, 50);
});

test("a subscription from the first event on brings what was there before", async () => {
  const topic = fresh("topic");
  const pub = await join();
  for (const n of numbers(30)) await must(pub, "publish", topic, "created", { n });
  const ann = await as(fresh("ann"));
  const got = collect(ann, "created");
  const answer = await must(ann, "subscribe", { topic, from: "first" });
  assert.equal(answer.unread, 30);
  for (const n of numbers(30, 30)) await must(pub, "publish", topic, "created", { n });
  await arrivals(got, 60);
});

test("meta stands before the offset", async () => {
  const topic = fresh("topic");
  const identity = fresh("ann");
  const ann = await as(identity);
  const got = collect(ann, "created");
  await must(ann, "subscribe", { topic, meta: true });
  const { offset } = await must(ann, "publish", { topic, id: "x" }, "created", "a", "b");
  await got.reach(1);
  const [a, b, meta, last] = got[0];
  assert.deepEqual([a, b, last], ["a", "b", offset]);
  assert.deepEqual(Object.keys(meta).sort(), ["attempt", "id", "offset", "publishedAt", "queue", "topic"]);
  assert.deepEqual([meta.topic, meta.queue, meta.offset, meta.id, meta.attempt], [topic, identity, offset, "x", 1]);
});

test("binary is kept as it was", async () => {
  const topic = fresh("topic");
  const ann = await as(fresh("ann"));
  const got = collect(ann, "file");
  await must(ann, "subscribe", topic);
  const bytes = Buffer.from([0, 1, 254, 255]);
  await must(ann, "publish", topic, "file", bytes, { deep: [Buffer.alloc(0)] }, "text");
  await got.reach(1);
  assert.deepEqual(got[0].slice(0, 3), [bytes, { deep: [Buffer.alloc(0)] }, "text"]);
  const { events } = await must(ann, "history", topic);
  assert.deepEqual(events[0].args, [bytes, { deep: [Buffer.alloc(0)] }, "text"]);
});

test("who has unsubscribed is held nothing", async () => {
  const topic = fresh("topic");
  const [ann, pub] = await Promise.all([as(fresh("ann")), join()]);
  await must(ann, "subscribe", topic);
  assert.deepEqual(await must(ann, "unsubscribe", topic), { topic });
  ann.on("created", () => assert.fail("got an event of a topic that it left"));
  await must(pub, "publish", topic, "created", { n: 0 });
  ann.off("created");
  const got = collect(ann, "created");
  assert.equal((await must(ann, "subscribe", topic)).unread, 0);
  await must(pub, "publish", topic, "created", { n: 0 });
  await arrivals(got, 1);
});

test("without an identity a subscription lives as long as the connection", async () => {
  const topic = fresh("topic");
  const [nobody, pub] = await Promise.all([join(), join()]);
  const got = collect(nobody, "created");
  await must(nobody, "subscribe", topic);
  await must(pub, "publish", topic, "created", { n: 0 });
  await arrivals(got, 1);
  nobody.disconnect();
  await must(pub, "publish", topic, "created", { n: 1 });
  nobody.connect();
  await connected(nobody);
  assert.equal((await must(nobody, "subscribe", topic)).unread, 0);
});

test("two connections of one identity both get everything", async () => {
  const topic = fresh("topic");
  const identity = fresh("ann");
  const [phone, laptop, pub] = await Promise.all([as(identity), as(identity), join()]);
  const got = [collect(phone, "created"), collect(laptop, "created")];
  await must(phone, "subscribe", topic);
  await must(laptop, "subscribe", topic);
  for (const n of numbers(20)) await must(pub, "publish", topic, "created", { n });
  for (const g of got) await arrivals(g, 20);
});

test("200 events, missed while the server was killed half-way, come once and in order", async () => {
  const topic = fresh("topic");
  const identity = fresh("ann");
  let ann = await as(identity);
  await must(ann, "subscribe", topic);
  ann.disconnect();

  const pub = await join();
  let restarted;
  for (const n of numbers(200)) {
    if (n === 100) restarted = server("kill").then(() => server("start")); // the next publishes meet a dying server
    await insist(pub, { topic, id: `event-${n}` }, "created", { n, text: "x".repeat(n) });
  }
  await restarted;

  ann = await as(identity);
  const got = collect(ann, "created");
  assert.equal((await must(ann, "subscribe", topic)).unread, 200);
  await arrivals(got, 200);
  await must(pub, "publish", topic, "created", { n: 200 }); // had anything come twice, it would stand before this one
  await arrivals(got, 201);
  assert.ok(got.every(([{ n, text }]) => n === 200 || text.length === n));
});

test("what was seen in part goes on where it stood, across a kill", async () => {
  const topic = fresh("topic");
  const identity = fresh("ann");
  let ann = await as(identity);
  let got = collect(ann, "created");
  const pub = await join();
  await must(ann, "subscribe", topic);
  for (const n of numbers(60)) await must(pub, "publish", topic, "created", { n });
  await arrivals(got, 60);
  ann.disconnect();
  for (const n of numbers(40, 60)) await must(pub, "publish", topic, "created", { n });
  await server("kill");
  await server("start");
  await connected(pub);
  const before = [...got];
  ann = await as(identity);
  got = collect(ann, "created");
  await must(ann, "subscribe", topic);
  for (const n of numbers(50, 100)) await insist(pub, { topic, id: `event-${n}` }, "created", { n });
  await got.reach(90);
  while (got.at(-1)[0].n < 149) await got.reach(got.length + 1);
  got.unshift(...before);
  await arrivals(got, 150, { repeats: 60 }); // what was not confirmed may come again, as a whole and in order
});

test("a subscriber that stays connected through the kill gets everything", async () => {
  const topic = fresh("topic");
  const ann = client({ auth: { client: fresh("ann") } });
  const got = collect(ann, "created");
  ann.on("connect", () => ann.emit("subscribe", topic, () => {}));
  await connected(ann);
  await must(ann, "subscribe", topic);
  const pub = await join();
  let restarted;
  for (const n of numbers(200)) {
    if (n === 100) restarted = server("kill").then(() => server("start"));
    await insist(pub, { topic, id: `event-${n}` }, "created", { n });
  }
  await restarted;
  await arrivals(got, 200, { repeats: 200 });
});

test("manual: not more than prefetch at a time, and each is acknowledged by itself", async () => {
  const topic = fresh("topic");
  const ann = await as(fresh("ann"));
  const got = collect(ann, "job");
  await must(ann, "subscribe", { topic, ack: "manual", prefetch: 4 });
  for (const n of numbers(10)) await must(ann, "publish", topic, "job", { n });
  await got.reach(4);
  await pause(200);
  assert.equal(got.length, 4);
  assert.ok(got.every((args) => args.length === 2 && typeof args[1] === "function"));
  got[2][1](); // out of order
  await got.reach(5);
  await pause(100);
  assert.equal(got.length, 5);
  for (let i = 0; i < 10; i++) {
    await got.reach(Math.min(i + 1, 10));
    if (i !== 2) got[i][1]();
  }
  assert.deepEqual(got.map(([{ n }]) => n), numbers(10));
});

test("manual: retry brings an event again, reject puts it aside", async () => {
  const topic = fresh("topic");
  const identity = fresh("ann");
  const ann = await as(identity);
  const got = collect(ann, "job");
  await must(ann, "subscribe", { topic, ack: "manual", meta: true });
  await must(ann, "publish", topic, "job", { n: 0 });
  await got.reach(1);
  got[0].at(-1)({ retry: "100ms" });
  await got.reach(2);
  assert.deepEqual(got.map((args) => [args[0].n, args[1].attempt]), [[0, 1], [0, 2]]);
  got[1].at(-1)({ reject: "too small" });
  await must(ann, "publish", topic, "job", { n: 1 });
  await got.reach(3);
  assert.equal(got[2][0].n, 1);
  got[2].at(-1)();
});

test("manual: what was received and not acknowledged comes again after a kill", async () => {
  const topic = fresh("topic");
  const identity = fresh("ann");
  let ann = await as(identity);
  let got = collect(ann, "job");
  await must(ann, "subscribe", { topic, ack: "manual", meta: true, prefetch: 8 });
  const pub = await join();
  for (const n of numbers(20)) await must(pub, "publish", { topic, id: `job-${n}` }, "job", { n });
  await got.reach(8);
  for (const n of [0, 1, 2, 5]) got[n].at(-1)();
  await got.reach(12);
  await pause(1500); // an acknowledgement is on disk within a second
  await server("kill");
  ann.disconnect();
  await server("start");
  await connected(pub);

  ann = await as(identity);
  got = collect(ann, "job");
  ann.on("job", (...args) => args.at(-1)());
  await must(ann, "subscribe", { topic, ack: "manual", meta: true, prefetch: 8 });
  await got.reach(16);
  await must(pub, "publish", topic, "job", { n: 20 });
  await got.reach(17);
  const rest = got.map(([{ n }]) => n);
  assert.deepEqual(rest, numbers(21).filter((n) => ![0, 1, 2, 5].includes(n)));
  for (const [{ n }, meta] of got) {
    const before = n < 12;
    assert.ok(before ? meta.attempt > 1 : meta.attempt === 1, `event ${n} comes as attempt ${meta.attempt}`);
  }
});

test("manual: what a lost connection did not acknowledge comes again, as a later attempt", async () => {
  const topic = fresh("topic");
  const identity = fresh("ann");
  let ann = await as(identity);
  let got = collect(ann, "job");
  await must(ann, "subscribe", { topic, ack: "manual", meta: true });
  for (const n of numbers(5)) await must(ann, "publish", topic, "job", { n });
  await got.reach(5);
  got[0].at(-1)();
  got[3].at(-1)();
  await must(ann, "join", "round-trip"); // the acks were read before this answer
  ann.io.engine.close();
  ann.disconnect();
  ann = await as(identity);
  got = collect(ann, "job");
  await must(ann, "subscribe", { topic, ack: "manual", meta: true });
  await got.reach(3);
  assert.deepEqual(got.map(([{ n }, meta]) => [n, meta.attempt]), [[1, 2], [2, 2], [4, 2]]);
});

test("a shared queue gives each event to one worker, and what a lost one had to another", async () => {
  const topic = fresh("jobs");
  const queue = fresh("workers");
  const [first, second, pub] = await Promise.all([as(fresh("ann")), as(fresh("bob")), join()]);
  const options = { topic, queue, ack: "manual", prefetch: 4, meta: true };
  const [got, other] = [collect(first, "job"), collect(second, "job")];
  assert.equal((await must(first, "subscribe", options)).queue, queue);
  for (const n of numbers(4)) await must(pub, "publish", topic, "job", { n });
  await got.reach(4); // the first has as much as it may
  await must(second, "subscribe", options);
  second.on("job", (...args) => args.at(-1)());
  for (const n of numbers(16, 4)) await must(pub, "publish", topic, "job", { n });
  await other.reach(16);
  assert.deepEqual(other.map(([{ n }]) => n).sort((a, b) => a - b), numbers(16, 4));
  got[0].at(-1)();
  await must(first, "join", "round-trip"); // the ack was read before this answer
  first.disconnect();
  await other.reach(19);
  assert.deepEqual(other.slice(16).map(([{ n }, meta]) => [n, meta.attempt]).sort(([a], [b]) => a - b), [[1, 2], [2, 2], [3, 2]]);
  await must(pub, "publish", topic, "job", { n: 20 });
  await other.reach(20);
  assert.equal(other.length, 20, "nothing came twice");
});

test("a backlog of 5,000 comes in order while more is published", async () => {
  const topic = fresh("topic");
  const identity = fresh("ann");
  const pub = await join();
  const early = await as(identity);
  await must(early, "subscribe", topic);
  early.disconnect();
  const text = "x".repeat(200);
  for (let n = 0; n < 5000; n += 500) await Promise.all(numbers(500, n).map((i) => must(pub, "publish", topic, "created", { n: i, text })));
  const ann = await as(identity);
  const got = collect(ann, "created");
  await must(ann, "subscribe", topic);
  for (let n = 5000; n < 5500; n += 100) await Promise.all(numbers(100, n).map((i) => must(pub, "publish", topic, "created", { n: i, text })));
  await arrivals(got, 5500);
});

await run();
