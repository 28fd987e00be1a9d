// One pane: draws what its link tells, passes on what its person does. All text goes in as text, never as markup.

import { Link } from "./link.js";

const KEPT_ROWS = 200;
const PACKET_ROWS = 120;

export class Pane extends EventTarget {
  constructor(index, identity, serverTime) {
    super();
    const template = document.getElementById("pane");
    this.root = template.content.firstElementChild.cloneNode(true);
    this.root.dataset.testid = `pane-${index}`;
    this.root.dataset.index = index;
    this.link = new Link(identity, serverTime);
    this.unread = 0; // what the server held for us when we subscribed
    this.delivered = 0; // and what has come since we connected
    this.held = 0; // what another pane saw arrive while we were away
    this.missedCount = 0;
    this.part("identity").value = identity;
    this.#name();
    this.#listen();
    this.#act();
  }

  part(testid) {
    return this.root.querySelector(`[data-testid="${testid}"]`);
  }

  slot(name) {
    return this.root.querySelector(`[data-slot="${name}"]`);
  }

  start() {
    this.link.start();
  }

  get identity() {
    return this.link.identity;
  }

  #listen() {
    const on = (type, f) => this.link.addEventListener(type, (event) => f(event.detail));
    on("state", (detail) => this.#state(detail));
    on("subscribed", ({ unread }) => this.#unread(unread));
    on("room", (detail) => this.#room(detail));
    on("topic", (detail) => this.#topic(detail));
    on("delivered", () => this.#delivered());
    on("outbox", ({ size }) => this.#outbox(size));
    on("notice", ({ message }) => this.#notice(message));
    on("packet", (detail) => this.#packet(detail));
  }

  #act() {
    this.#submit("room-send", "room-input", (text) => this.link.send(text));
    this.#submit("topic-publish", "topic-input", (text) => this.link.publish(text));
    this.part("offline-switch").addEventListener("change", (event) => this.link.setOffline(event.target.checked));
    this.slot("meta").addEventListener("change", (event) => this.link.setMeta(event.target.checked));
    const identity = this.part("identity");
    identity.addEventListener("change", () => {
      const name = identity.value.trim();
      if (name === "" || name === this.identity) {
        identity.value = this.identity;
        return;
      }
      this.#become(name);
    });
    identity.addEventListener("keydown", (event) => {
      if (event.key === "Enter") identity.blur();
    });
  }

  #submit(button, input, f) {
    const field = this.part(input);
    this.part(button).form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (text === "" || this.part(button).disabled) return;
      field.value = "";
      f(text);
    });
  }

  #become(name) {
    for (const list of ["room-log", "topic-log", "missed-list", "packets"]) this.part(list).replaceChildren();
    this.missedCount = this.unread = this.delivered = this.held = 0;
    this.#notice("");
    this.link.become(name);
    this.#name();
    this.#away();
    this.dispatchEvent(new Event("renamed"));
  }

  #name() {
    const name = this.identity;
    this.slot("avatar").textContent = [...name][0].toUpperCase();
    for (const slot of this.root.querySelectorAll('[data-slot="name"]')) slot.textContent = name;
    this.root.setAttribute("aria-label", `Client ${name}`);
  }

  #state({ state, transport, attempt, message }) {
    this.root.dataset.state = state;
    this.part("status").textContent = {
      connecting: "connecting",
      connected: `connected · ${transport}`,
      reconnecting: attempt > 0 ? `reconnecting · try ${attempt}` : "reconnecting",
      offline: "offline",
      refused: `refused · ${message}`,
    }[state];
    const live = state === "connected";
    this.part("room-send").disabled = !live;
    this.part("room-input").placeholder = live ? "Say something" : "Connect first";
    if (this.wasLive !== live) this.held = this.unread = this.delivered = 0;
    this.wasLive = live;
    this.#away();
    if (live) this.#notice("");
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }

  // heldElsewhere counts what another pane saw arrive while this one is away: the server tells an absent client nothing.
  heldElsewhere() {
    if (this.root.dataset.state === "connected") return;
    this.held++;
    this.#away();
  }

  #delivered() {
    this.delivered++;
    this.#away();
  }

  #unread(count) {
    this.unread = count;
    this.#away();
  }

  #away() {
    const away = this.root.dataset.state !== "connected";
    const waiting = away ? this.held : Math.max(0, this.unread - this.delivered);
    const badge = this.slot("unread");
    badge.textContent = waiting === 0 ? (this.missedCount ? `${this.missedCount} came late` : "") : `${waiting} waiting`;
    badge.classList.toggle("is-waiting", waiting > 0);
    this.slot("missed-empty").textContent = !away
      ? "Nothing missed. Take this pane offline, publish from the other, come back."
      : waiting > 0
        ? `${plural(waiting, "order is", "orders are")} held for ${this.identity}.`
        : `${this.identity} is away. What is published now is held.`;
    this.slot("missed-empty").hidden = this.missedCount > 0 && !(away && this.root.dataset.state === "offline");
  }

  #room({ text, from, mine, error }) {
    const row = line("row");
    row.append(cell("who", mine ? "you" : from || "someone"), cell("text", text), cell("when", error ? error : clock(Date.now())));
    row.classList.toggle("is-mine", mine);
    row.classList.toggle("is-error", Boolean(error));
    append(this.part("room-log"), row, KEPT_ROWS);
  }

  #topic(event) {
    const row = line("row");
    const when = cell("when", clock(event.arrivedAt));
    row.append(cell("who", event.from || event.name), cell("text", event.text), when);
    row.classList.toggle("is-missed", event.missed);
    row.title = `${event.name} at offset ${event.offset}`;
    append(this.part("topic-log"), row, KEPT_ROWS);
    if (event.missed) this.#missed(event);
    this.dispatchEvent(new CustomEvent("kept", { detail: event }));
  }

  #missed(event) {
    this.missedCount++;
    const row = line("late");
    const times = document.createElement("span");
    times.className = "times";
    times.append(cell("time", clock(event.publishedAt)), cell("arrow", "→"), cell("time", clock(event.arrivedAt)));
    row.append(cell("text", event.text), times, cell("held", `held ${span(event.arrivedAt - event.publishedAt)}`));
    append(this.part("missed-list"), row, KEPT_ROWS);
    this.#away();
  }

  #outbox(size) {
    this.slot("outbox").textContent = size > 0 ? `${plural(size, "order", "orders")} not stored yet: sent again on connect` : "";
  }

  #notice(message) {
    this.slot("notice").textContent = message;
  }

  #packet({ up, text, note }) {
    const row = line("packet");
    row.append(cell("dir", note ? "·" : up ? "↑" : "↓"), cell("raw", note ?? text));
    row.classList.toggle("is-up", Boolean(up));
    row.classList.toggle("is-note", Boolean(note));
    row.title = note ?? text;
    append(this.part("packets"), row, PACKET_ROWS);
  }
}

function line(name) {
  const item = document.createElement("li");
  item.className = name;
  return item;
}

function cell(name, text) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = text;
  return span;
}

// append keeps the end in view unless the reader has scrolled up, and the list bounded.
function append(list, row, most) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
  list.append(row);
  while (list.childElementCount > most) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function clock(ms) {
  const at = new Date(ms);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString()} ${time}`;
}

function span(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

function plural(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}
