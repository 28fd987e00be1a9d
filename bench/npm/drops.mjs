// Delivery through drops: 500 official clients in 20 rooms, whose connections break every few seconds for a minute, while 20 events
// a second are emitted to the rooms. Counts what each client missed, got twice, or got out of order.
//
//   node drops.mjs [-seconds 60] [-clients 500] URL [-json]
//
// The server speaks the bench contract with recovery on.

import { io } from "socket.io-client";

const arg = (name, value) => {
  const at = process.argv.indexOf(`-${name}`);
  return at > 0 ? Number(process.argv[at + 1]) : value;
};
const seconds = arg("seconds", 60);
const count = arg("clients", 500);
const url = process.argv.find((a) => a.startsWith("http"));
if (!url) {
  console.error("usage: node drops.mjs [-seconds 60] [-clients 500] http://HOST:PORT [-json]");
  process.exit(2);
}
const ROOMS = 20;
const RATE = 20; // events a second, over all rooms
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const within = (from, to) => from + Math.random() * (to - from);

const emitted = Array.from({ length: ROOMS }, () => 0);
const clients = [];
let cuts = 0;
let recovered = 0;
let anew = 0;
let over = false;

async function guest(i) {
  const room = i % ROOMS;
  const socket = io(url, { forceNew: true, transports: ["websocket"], reconnectionDelay: 100, reconnectionDelayMax: 1000 });
  const c = { room, got: [], socket, first: undefined };
  clients.push(c);
  socket.on("msg", (text) => {
    const [where, n] = text.split(":").map(Number);
    if (where === room) c.got.push(n);
  });
  await new Promise((resolve) => socket.once("connect", resolve));
  await socket.emitWithAck("join", `room-${room}`);
  c.first = emitted[room];
  socket.on("connect", () => {
    if (socket.recovered) recovered++;
    else {
      anew++;
      socket.emit("join", `room-${room}`, () => {});
    }
  });
  (async () => {
    for (;;) {
      await pause(within(2000, 5000));
      if (over) return;
      if (!socket.connected) continue;
      cuts++;
      socket.io.engine.transport.ws.terminate();
    }
  })();
}

for (let i = 0; i < count; i += 25) await Promise.all(Array.from({ length: Math.min(25, count - i) }, (_, k) => guest(i + k)));
const talker = io(url, { forceNew: true, transports: ["websocket"] });
await new Promise((resolve) => talker.once("connect", resolve));

const end = Date.now() + seconds * 1000;
for (let n = 0; Date.now() < end; n++) {
  const room = n % ROOMS;
  talker.emit("room", `room-${room}`, `${room}:${emitted[room]++}`);
  await pause(1000 / RATE);
}
over = true;
await pause(5000);

const result = { clients: count, emitted: emitted.reduce((a, b) => a + b), cuts, recovered, anew, due: 0, missed: 0, twice: 0, disordered: 0, harmed: 0 };
for (const c of clients) {
  const want = emitted[c.room] - c.first;
  const seen = new Set(c.got);
  const missed = want - seen.size;
  result.due += want;
  result.missed += missed;
  result.twice += c.got.length - seen.size;
  for (let i = 1; i < c.got.length; i++) if (c.got[i] < c.got[i - 1]) result.disordered++;
  if (missed > 0) result.harmed++;
}
result.delivered = Number(((100 * (result.due - result.missed)) / result.due).toFixed(3));
console.log(process.argv.includes("-json") ? JSON.stringify(result) : result);
process.exit(0);
