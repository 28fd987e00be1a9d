// A browser on the page of the examples, which another server than ours serves: who was away finds the orders of meanwhile.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { chromium } from "playwright-core";
import { run, test, url } from "./harness.mjs";

const PATIENCE = 20_000;

const html = await readFile(process.env.HOLDPOST_PAGE);
const pages = http.createServer((request, response) => {
  response.writeHead(request.url.startsWith("/?") ? 200 : 404, { "Content-Type": "text/html" });
  response.end(request.url.startsWith("/?") ? html : "");
});
await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));

const browser = await chromium.launch({
  executablePath: process.env.HOLDPOST_CHROMIUM,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
});

async function visit(name) {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.stack));
  await page.goto(`http://localhost:${pages.address().port}/?name=${name}&server=${encodeURIComponent(url)}`);
  return {
    state: (text) => page.getByRole("status").filter({ hasText: text }).waitFor(),
    order: async (text) => {
      await page.getByLabel("Order").fill(text);
      await page.getByRole("button").click();
    },
    shows: (text) => page.locator("li", { hasText: text }).waitFor(),
    async end() {
      await page.close();
      assert.deepEqual(complaints, []);
    },
  };
}

test("orders of meanwhile are there when the page is opened again", async () => {
  const ann = await visit("ann");
  await ann.state("connected, 0 orders");
  await ann.order("1 espresso");
  await ann.shows("1 espresso");
  await ann.end();

  const bob = await visit("bob");
  await bob.state("connected");
  await bob.order("2 <b>cakes</b>");
  await bob.shows("2 <b>cakes</b>");
  await bob.end();

  const again = await visit("ann");
  await again.shows("2 <b>cakes</b>");
  await again.state(/connected, [12] orders/); // her own one too, if she left before its acknowledgement was sent
  await again.end();
});

try {
  await run();
} finally {
  await browser.close();
  pages.close();
}
