// Sets up the two panes and the little that they share.

import { Pane } from "./pane.js";

const NAMES = ["ann", "bob"];
const REMEMBER = "holdpost-playground-identities";

let skew = 0; // server's clock minus ours: a phone's clock may be minutes off
const serverTime = () => Date.now() + skew;

async function measureSkew() {
  const before = Date.now();
  const answer = await fetch("/", { method: "HEAD", cache: "no-store" });
  const server = Date.parse(answer.headers.get("date")) + 500; // the header has whole seconds
  const off = server - (before + Date.now()) / 2;
  if (Math.abs(off) > 2000) skew = off;
}

function remembered() {
  try {
    const names = JSON.parse(localStorage.getItem(REMEMBER));
    return NAMES.map((name, i) => (typeof names?.[i] === "string" && names[i] ? names[i] : name));
  } catch {
    return NAMES;
  }
}

function remember(panes) {
  try {
    localStorage.setItem(REMEMBER, JSON.stringify(panes.map((pane) => pane.identity)));
  } catch {
    // a browser that keeps nothing is fine: the names are back to the defaults on the next visit
  }
}

function shared(panes) {
  const same = panes[0].identity === panes[1].identity;
  const note = document.getElementById("same");
  note.hidden = !same;
  note.textContent = same ? `Both panes are ${panes[0].identity}: they share one queue, and what one has seen is not held for the other.` : "";
}

await measureSkew().catch(() => {});
const panes = remembered().map((name, index) => new Pane(index, name, serverTime));
document.getElementById("panes").replaceChildren(...panes.map((pane) => pane.root));
for (const pane of panes) {
  const other = panes.find((candidate) => candidate !== pane);
  pane.addEventListener("kept", ({ detail }) => {
    if (!detail.missed && other.identity !== pane.identity) other.heldElsewhere();
  });
  pane.addEventListener("renamed", () => {
    remember(panes);
    shared(panes);
  });
}
shared(panes);
for (const pane of panes) pane.start();
