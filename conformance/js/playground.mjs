// A browser goes through the story that the playground tells: one pane offline, post arriving when it is back, also from a
// server that was killed in between.

import assert from "node:assert/strict";
import path from "node:path";
import { chromium } from "playwright-core";
import { run, server, test, url } from "./harness.mjs";

const PATIENCE = 20_000;

const browser = await chromium.launch({
  executablePath: process.env.HOLDPOST_CHROMIUM,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});

// A visit is one page in a context of its own, and all that it complains about.
async function visit(viewport) {
  const context = await browser.newContext({ viewport });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const complaints = [];
  let down = false;
  page.on("pageerror", (error) => complaints.push(`uncaught: ${error.stack}`));
  page.on("console", (message) => {
    if (!["error", "warning", "assert"].includes(message.type())) return;
    const network = /net::ERR_|WebSocket connection to .* failed|Failed to load resource/.test(message.text());
    if (!(down && network)) complaints.push(`${message.type()}: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!/^(data|blob):/.test(request.url()) && new URL(request.url()).host !== new URL(url).host) complaints.push(`asks ${request.url()}`);
  });
  const response = await page.goto(url);
  assert.equal(response.status(), 200);
  const panes = [0, 1].map((i) => pane(page, i));
  await Promise.all(panes.map((p) => p.online()));
  return {
    page,
    panes,
    // outage runs f, in which the server may be gone: then a browser logs what it cannot reach.
    async outage(f) {
      down = true;
      await f();
      await Promise.all(panes.map((p) => p.settled()));
      down = false;
    },
    async end() {
      await context.close();
      assert.deepEqual(complaints, []);
    },
  };
}

function pane(page, index) {
  const root = page.locator(`[data-testid=pane-${index}]`);
  const part = (name) => root.locator(`[data-testid=${name}]`);
  const state = (...states) => page.waitForFunction(
    ([i, wanted]) => wanted.includes(document.querySelector(`[data-testid=pane-${i}]`)?.dataset.state),
    [index, states], { timeout: PATIENCE },
  );
  const rows = (list) => part(list).locator("li").allInnerTexts();
  return {
    part,
    rows,
    online: () => state("connected"),
    settled: () => state("connected", "offline"),
    async offline(away) {
      await root.locator("label:has([data-testid=offline-switch])").click();
      assert.equal(await part("offline-switch").isChecked(), away);
      await state(away ? "offline" : "connected");
    },
    async say(where, text) {
      const [input, button] = where === "topic" ? ["topic-input", "topic-publish"] : ["room-input", "room-send"];
      await part(input).fill(text);
      await part(button).click();
    },
    // lists waits until a list shows these texts, in this order and each once, as its last rows.
    async lists(list, texts) {
      await page.waitForFunction(
        ([i, name, wanted]) => {
          const items = [...document.querySelectorAll(`[data-testid=pane-${i}] [data-testid=${name}] li`)];
          const tail = items.slice(-wanted.length).map((li) => li.textContent);
          return tail.length === wanted.length && wanted.every((text, n) => tail[n].includes(text));
        },
        [index, list, texts], { timeout: PATIENCE },
      ).catch(async (error) => {
        throw new Error(`pane ${index}, ${list}: want ${JSON.stringify(texts)}, got ${JSON.stringify(await rows(list))}`, { cause: error });
      });
      const all = await rows(list);
      for (const text of texts) assert.equal(all.filter((row) => row.includes(text)).length, 1, `${text} once in ${list}`);
    },
  };
}

async function picture(page, name) {
  await page.screenshot({ path: path.join(process.env.HOLDPOST_ARTIFACTS, name), animations: "disabled" });
}

const desktop = { width: 1280, height: 800 };
const phone = { width: 390, height: 844 };
const orders = (prefix, n) => Array.from({ length: n }, (_, i) => `${prefix} ${i + 1}.`);

test("live and kept, both panes online", async () => {
  const v = await visit(desktop);
  const [ann, bob] = v.panes;
  assert.notEqual(await ann.part("identity").inputValue(), await bob.part("identity").inputValue());
  await bob.say("room", "hello from bob");
  await ann.lists("room-log", ["hello from bob"]);
  await ann.say("room", "hello from ann");
  await bob.lists("room-log", ["hello from ann"]);
  await bob.say("topic", "one flat white");
  await ann.lists("topic-log", ["one flat white"]);
  await bob.lists("topic-log", ["one flat white"]);
  assert.equal((await ann.rows("missed-list")).length, 0);
  assert.ok((await ann.rows("packets")).some((row) => row.includes("one flat white")));
  await v.end();
});

test("what one pane misses arrives when it is back, in order", async () => {
  const v = await visit(desktop);
  const [ann, bob] = v.panes;
  await ann.offline(true);
  const missed = orders("missed", 6);
  for (const text of missed) await bob.say("topic", text);
  await bob.say("room", "nobody keeps this");
  await bob.lists("topic-log", missed);
  await ann.offline(false);
  await ann.lists("topic-log", missed);
  await ann.lists("missed-list", missed);
  await bob.say("topic", "live again");
  await ann.lists("topic-log", [...missed, "live again"]);
  assert.equal((await ann.rows("missed-list")).length, missed.length);
  assert.ok(!(await ann.rows("room-log")).some((row) => row.includes("nobody keeps this")));
  await picture(v.page, "playground-desktop.png");
  await v.end();
});

test("also when the server was killed in between", async () => {
  const v = await visit(desktop);
  const [ann, bob] = v.panes;
  await ann.offline(true);
  const before = orders("before the kill", 4);
  const during = orders("during the outage", 2);
  const after = orders("after the kill", 4);
  for (const text of before) await bob.say("topic", text);
  await bob.lists("topic-log", before);
  await v.outage(async () => {
    await server("kill");
    for (const text of during) await bob.say("topic", text); // kept in the page until the server is back
    await server("start");
    await bob.online();
  });
  for (const text of after) await bob.say("topic", text);
  await bob.lists("topic-log", [...during, ...after]);
  await ann.offline(false);
  await ann.lists("topic-log", [...before, ...during, ...after]);
  await ann.lists("missed-list", [...before, ...during, ...after]);
  await picture(v.page, "playground-desktop-after-kill.png");
  await v.end();
});

test("on a phone", async () => {
  const v = await visit(phone);
  const [ann, bob] = v.panes;
  await ann.offline(true);
  const missed = orders("on the phone", 3);
  for (const text of missed) await bob.say("topic", text);
  await picture(v.page, "playground-phone-offline.png");
  await ann.offline(false);
  await ann.lists("missed-list", missed);
  const wide = await v.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(wide <= 0, `the page is ${wide} px wider than the phone`);
  await v.page.evaluate(() => scrollTo(0, 0));
  await picture(v.page, "playground-phone.png");
  await v.end();
});

try {
  await run();
} finally {
  await browser.close();
}
