// The npm socket.io server behind the same contract as bench/target, with its default settings: no recovery unless -recovery, no
// permessage-deflate. Only the client bundle is not served, since nobody asks for it.
//
//   node --expose-gc server.mjs -addr 127.0.0.1:PORT [-recovery]
//
// One JSON line on standard output says that it listens. SIGUSR2 collects garbage and is answered with another line.
// (SIGUSR1 would be the debugger's in Node.)

import { createServer } from "node:http";
import { Server } from "socket.io";

const at = process.argv.findIndex((a) => a === "-addr" || a === "--addr");
const addr = at > 0 ? process.argv[at + 1] : "127.0.0.1:0";
const [, host, port] = /^(.*):(\d+)$/.exec(addr) ?? [];
if (host === undefined) {
  console.error(`-addr ${addr}: want HOST:PORT`);
  process.exit(2);
}

const http = createServer();
const recovery = process.argv.includes("-recovery") ? { connectionStateRecovery: {} } : {};
const io = new Server(http, { serveClient: false, ...recovery });

io.on("connection", (socket) => {
  socket.on("echo", (payload, ack) => ack(payload));
  socket.on("bcast", (payload) => io.emit("msg", payload));
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack();
  });
  socket.on("room", (room, payload) => io.to(room).emit("msg", payload));
});

const line = (v) => process.stdout.write(JSON.stringify(v) + "\n");

// What a collection leaves to finalisers only the next one frees, hence two turns.
process.on("SIGUSR2", () => {
  gc();
  setImmediate(() => {
    gc();
    line({ collected: true, heap: process.memoryUsage().heapUsed });
  });
});

http.listen(Number(port), host, () => {
  const a = http.address();
  line({ listen: `${a.address}:${a.port}`, pid: process.pid });
});
