// The npm server that our Go client is tested with. One line on standard output says where it listens; its cases are those of
// goserver in goclient_test.go.

import { createServer } from "node:http";
import { createRequire } from "node:module";

const { Server } = createRequire(new URL("../../bench/npm/", import.meta.url))("socket.io");

const here = createRequire(import.meta.url);
const parser = process.env.HOLDPOST_MSGPACK ? { parser: here("socket.io-msgpack-parser") } : {};
const http = createServer();
const io = new Server(http, {
  serveClient: false, connectionStateRecovery: {}, pingInterval: 300, pingTimeout: 6000, perMessageDeflate: { threshold: 1024 }, ...parser,
});

for (const name of ["/", "/admin"]) {
  const namespace = io.of(name);
  namespace.use((socket, next) => {
    if (socket.handshake.auth.refuse) {
      next(Object.assign(new Error("go away"), { data: { why: 7 } }));
      return;
    }
    next();
  });
  namespace.on("connection", (socket) => {
    socket.on("echo", (...args) => args.pop()(...args));
    socket.on("count", (n) => {
      for (let i = 0; i < n; i++) socket.emit("n", i, "<&> \u2028 é");
    });
    socket.on("ask", async (ack) => ack(await socket.emitWithAck("question", 6, Buffer.from([1, 2, 3]))));
    socket.on("auth", (ack) => ack(socket.handshake.auth, socket.handshake.query.tenant, socket.recovered));
    socket.on("out", (close) => socket.disconnect(close));
    socket.on("enter", (ack) => {
      socket.join("hall");
      ack();
    });
    socket.on("here", async (ack) => ack((await namespace.in("hall").fetchSockets()).length));
    const seen = [];
    socket.on("note", (...args) => {
      const ack = typeof args.at(-1) === "function" ? args.pop() : () => {};
      seen.push(...args);
      ack(seen);
    });
    socket.on("shout", (n, ack) => {
      namespace.to("hall").emit("n", n);
      ack();
    });
  });
}

http.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${http.address().port}`));
