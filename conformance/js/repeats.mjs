// A browser that repeats requests, as browsers do when a connection that they had kept breaks before the answer is there: the page misses
// nothing and says nothing twice.

import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { chromium } from "playwright-core";
import { connected, client, must, run, test, url } from "./harness.mjs";

const PATIENCE = 20_000;
const upstream = new URL(url);

// A path to the server that keeps an answer for itself and breaks the connection, when it is armed for a method.
let armed = null;
const times = new Map(); // that a request has come
const path = net.createServer((page) => {
  const server = net.connect(Number(upstream.port), upstream.hostname);
  let requests = 0;
  let method = "";
  page.on("data", (data) => {
    const line = /^(GET|POST) (\S*[?&]sid=\S*)/.exec(data.toString("latin1"));
    if (line) {
      requests++;
      method = line[1];
      times.set(line[0], (times.get(line[0]) ?? 0) + 1);
    }
    server.write(data);
  });
  server.on("data", (data) => {
    if (armed !== method || requests < 2) {
      page.write(data);
      return;
    }
    armed = null;
    page.resetAndDestroy();
    server.end();
  });
  const end = () => (page.destroy(), server.destroy());
  for (const side of [page, server]) side.on("error", end).on("close", end);
});
await new Promise((resolve) => path.listen(0, "127.0.0.1", resolve));
const address = `http://127.0.0.1:${path.address().port}`;

const pages = http.createServer((_, response) => {
  response.writeHead(200, { "Content-Type": "text/html" });
  response.end(`<!doctype html><script src="${address}/socket.io/socket.io.min.js"></script><script>
    const got = [];
    const socket = io("${address}", { transports: ["polling"], auth: { client: "ann" }, reconnectionDelay: 50 });
    socket.on("connect", () => socket.recovered || socket.emit("subscribe", "orders", () => { document.title = "ready"; }));
    socket.on("order", (n) => got.push(n));
    const order = (n) => socket.emit("publish", "orders", "order", n);
  </script>`);
});
await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));

const browser = await chromium.launch({
  executablePath: process.env.HOLDPOST_CHROMIUM,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
});

test("answers that are lost on the way", async () => {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(`http://localhost:${pages.address().port}/`);
  await page.waitForFunction(() => document.title === "ready");
  const bob = await connected(client());
  let n = 0;
  // broken publishes until an answer to the page is lost, which takes a connection that the browser has kept.
  const broken = async (method, publish) => {
    for (armed = method; armed; ) {
      await publish(n++);
      await page.waitForFunction((n) => got.length >= n, n);
    }
  };
  for (let round = 0; round < 5; round++) {
    await broken("GET", (n) => must(bob, "publish", "orders", "order", n));
    await broken("POST", (n) => page.evaluate((n) => order(n), n));
  }
  assert.deepEqual(await page.evaluate(() => got), Array.from({ length: n }, (_, i) => i));
  const { events } = await must(bob, "history", { topic: "orders", from: "first", limit: 1000 });
  assert.equal(events.length, n);
  for (const method of ["GET", "POST"]) {
    assert.ok([...times].some(([request, n]) => request.startsWith(method) && n > 1), `no ${method} was repeated`);
  }
});

try {
  await run();
} finally {
  await browser.close();
  pages.close();
  path.close();
}
