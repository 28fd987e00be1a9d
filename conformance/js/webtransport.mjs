// The official client over WebTransport, in a browser, which alone has it.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";
import { run, server, test, url } from "./harness.mjs";

const browser = await chromium.launch({
  executablePath: process.env.HOLDPOST_CHROMIUM,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true });

// visit loads the client from the server and makes two sockets, of ann and of bob, with these transports.
async function visit(transports) {
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  await page.goto(url);
  await page.addScriptTag({ url: `${url}/socket.io/socket.io.min.js` });
  await page.evaluate(async ([transports, hash]) => {
    const value = Uint8Array.from(hash.match(/../g), (byte) => parseInt(byte, 16));
    const join = (client) => io({
      auth: { client }, transports, forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200,
      transportOptions: { webtransport: { serverCertificateHashes: [{ algorithm: "sha-256", value }] } },
    });
    window.ann = join("ann");
    window.bob = join("bob");
    window.got = [];
    ann.on("e", (...args) => got.push(args[0]));
    window.connected = async () => {
      for (const s of [ann, bob]) {
        if (!s.connected) await new Promise((resolve) => s.once("connect", resolve));
        if (s.io.engine.transport.name !== "webtransport") await new Promise((resolve) => s.io.engine.once("upgrade", resolve));
      }
    };
    window.reached = (n) => new Promise((resolve) => {
      const check = () => got.length >= n && resolve(got);
      ann.onAny(() => queueMicrotask(check));
      check();
    });
    window.must = async (s, ...message) => {
      const answer = await s.timeout(15_000).emitWithAck(...message);
      if (answer?.error) throw new Error(JSON.stringify(answer.error));
      return answer;
    };
    await connected();
  }, [transports, process.env.HOLDPOST_CERTIFICATE]);
  return page;
}

for (const [name, transports] of [["direct", ["webtransport"]], ["upgrade", ["polling", "webtransport"]]]) {
  test(`${name}: events both ways, binary, and what is kept`, async () => {
    const page = await visit(transports);
    const result = await page.evaluate(async () => {
      await must(ann, "join", "lobby");
      const bytes = new Uint8Array(300_000).map((_, i) => i);
      await must(bob, "send", "lobby", "e", bytes);
      await must(ann, "subscribe", { topic: `orders/${ann.id}`, from: "first" });
      for (let n = 0; n < 50; n++) await must(bob, "publish", `orders/${ann.id}`, "e", n);
      const [first, ...rest] = await reached(51);
      const same = first.byteLength === bytes.length && new Uint8Array(first).every((b, i) => b === bytes[i]);
      return { same, rest, name: [ann, bob].map((s) => s.io.engine.transport.name) };
    });
    assert.equal(result.same, true, "the bytes");
    assert.deepEqual(result.rest, Array.from({ length: 50 }, (_, n) => n));
    assert.deepEqual(result.name, ["webtransport", "webtransport"]);
    await page.close();
  });

  test(`${name}: the server is killed, and both come back to what they missed`, async () => {
    const page = await visit(transports);
    await page.evaluate(async () => {
      await must(ann, "join", "lobby");
      await must(bob, "send", "lobby", "e", 1);
      await reached(1);
      window.gone = [ann, bob].map((s) => new Promise((resolve) => s.once("disconnect", resolve)));
    });
    await server("kill");
    await server("start");
    const result = await page.evaluate(async () => {
      // Unlike TCP, nobody tells of a process that is gone; its successor does, to whoever sends something. Who sent something before
      // there was one has noticed by itself, and may be back already.
      for (const s of [ann, bob]) s.volatile.emit("leave", "nowhere");
      await Promise.all(gone);
      await connected();
      await must(bob, "send", "lobby", "e", 2);
      return { got: await reached(2), recovered: ann.recovered };
    });
    assert.deepEqual(result, { got: [1, 2], recovered: true });
    await page.close();
  });

  test(`${name}: a connection that is lost is recovered`, async () => {
    const page = await visit(transports);
    const result = await page.evaluate(async () => {
      await must(ann, "join", "lobby");
      await must(bob, "send", "lobby", "e", 1);
      await reached(1);
      const id = ann.id;
      ann.io.reconnection(false);
      ann.io.engine.close();
      await must(bob, "send", "lobby", "e", 2);
      ann.io.reconnection(true);
      ann.connect();
      await connected();
      return { got: await reached(2), recovered: ann.recovered, same: ann.id === id };
    });
    assert.deepEqual(result, { got: [1, 2], recovered: true, same: true });
    await page.close();
  });
}

await run();
await browser.close();
