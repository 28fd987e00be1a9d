// One pane's connection: what it says to the server with the official client, and what it hears.
// It knows nothing of the page; everything it learns goes out as an event.

const ROOM = "lobby";
const TOPIC = "orders";
const ANSWER_MS = 8000;
const REMEMBERED = 5000; // offsets kept to drop what at-least-once delivery repeats

const WIRE_TYPE = { open: 0, close: 1, ping: 2, pong: 3, message: 4, upgrade: 5, noop: 6 };

export class Link extends EventTarget {
  constructor(identity, serverTime) {
    super();
    this.identity = identity;
    this.serverTime = serverTime;
    this.offline = false;
    this.withMeta = true;
    this.openedAt = Infinity; // server's clock; what comes before the connection is announced was missed
    this.outbox = new Map(); // id → event that is not known to be stored
    this.seen = new Set();
    this.socket = this.#build();
  }

  #build() {
    const socket = io({
      forceNew: true,
      autoConnect: false,
      auth: (give) => give({ client: this.identity }),
      reconnectionDelay: 400,
      reconnectionDelayMax: 2500,
    });
    socket.on("connect", () => this.#connected());
    socket.on("disconnect", (reason) => this.#disconnected(reason));
    socket.on("connect_error", (error) => this.#refused(error));
    socket.onAny((event, ...args) => this.#event(event, args));
    socket.io.on("reconnect_attempt", (attempt) => {
      this.#state("reconnecting", { attempt });
      queueMicrotask(() => this.#tap()); // the client makes the new engine right after this event
    });
    return socket;
  }

  start() {
    this.#state("connecting");
    this.socket.connect();
    this.#tap();
  }

  setOffline(offline) {
    if (offline === this.offline) return;
    this.offline = offline;
    clearTimeout(this.retry);
    if (offline) {
      this.socket.disconnect();
      this.#state("offline");
    } else {
      this.start();
    }
  }

  // become changes who this pane is: another identity has another queue, so nothing seen so far counts.
  become(identity) {
    this.identity = identity;
    this.seen.clear();
    this.outbox.clear();
    clearTimeout(this.retry);
    this.socket.disconnect();
    if (!this.offline) this.start();
  }

  // setMeta subscribes once more: the second subscription to a topic replaces the first, on the same queue.
  setMeta(withMeta) {
    this.withMeta = withMeta;
    if (this.socket.connected) this.#subscribe();
  }

  // send is live: whoever is not in the room now never hears it.
  async send(text) {
    const message = { text, from: this.identity };
    const answer = await this.#ask("send", ROOM, "chat", message);
    this.#tell("room", { ...message, mine: true, error: answer.error });
  }

  // publish is kept: it is tried again under the same id until the server says that it is stored.
  publish(text) {
    const id = `${this.identity}-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    const event = { id, text, from: this.identity };
    this.outbox.set(id, event);
    this.#tell("outbox", { size: this.outbox.size });
    if (this.socket.connected) this.#post(event);
  }

  async #post(event) {
    const { id, text, from } = event;
    const answer = await this.#ask("publish", { topic: TOPIC, id }, "created", { text, from });
    if (answer.unknown) return; // no answer: it stays in the outbox, the next connection repeats it
    this.outbox.delete(id);
    this.#tell("outbox", { size: this.outbox.size });
    if (answer.error) this.#tell("notice", { message: `not stored: ${answer.error}` });
  }

  async #connected() {
    this.openedAt = this.serverTime();
    const engine = this.socket.io.engine;
    this.#state("connected", { transport: engine.transport.name });
    engine.once("upgrade", (transport) => this.#state("connected", { transport: transport.name }));
    this.#ask("join", ROOM);
    await this.#subscribe();
    for (const event of this.outbox.values()) this.#post(event);
  }

  async #subscribe() {
    const answer = await this.#ask("subscribe", { topic: TOPIC, meta: this.withMeta });
    if (answer.error) {
      if (!answer.unknown) this.#tell("notice", { message: `subscribe: ${answer.error}` });
      return;
    }
    this.#tell("subscribed", { unread: answer.unread ?? 0, offset: answer.offset });
  }

  #disconnected(reason) {
    this.openedAt = Infinity;
    if (this.offline || reason === "io client disconnect") return;
    this.#state("reconnecting", { attempt: 0 });
    // The client leaves a connection that the server ended in good order alone; a restart is such an end.
    if (reason === "io server disconnect") this.retry = setTimeout(() => this.start(), 600);
  }

  #refused(error) {
    if (this.offline) return;
    if (this.socket.active) {
      this.#state("reconnecting", { attempt: 0 }); // the transport failed; the client tries again by itself
    } else {
      this.#state("refused", { message: error.message });
    }
  }

  // The last argument of every event is its offset. What an event of the topic has besides is meta; without it only the name
  // tells it from what is said in the room.
  #event(name, args) {
    const offset = args.at(-1);
    const meta = args.at(-2);
    if (meta !== null && typeof meta === "object" && meta.offset === offset && meta.topic === TOPIC) {
      this.#kept(name, args.slice(0, -2), offset, Date.parse(meta.publishedAt));
    } else if (name === "chat") {
      this.#tell("room", { ...describe(args.slice(0, -1)), mine: false });
    } else if (typeof offset === "string" && offset.startsWith("~")) {
      this.#kept(name, args.slice(0, -1), offset, NaN);
    }
  }

  #kept(name, args, offset, publishedAt) {
    this.#tell("delivered", {});
    if (this.seen.has(offset)) return; // at least once: a repeat carries the same offset
    this.seen.add(offset);
    if (this.seen.size > REMEMBERED) this.seen.delete(this.seen.values().next().value);
    this.#tell("topic", {
      ...describe(args),
      name,
      offset,
      publishedAt,
      arrivedAt: this.serverTime(),
      missed: publishedAt < this.openedAt,
    });
  }

  // #ask resolves always: with the server's result, or with { error } and, when nobody answered, unknown.
  #ask(...message) {
    return new Promise((resolve) => {
      this.socket.timeout(ANSWER_MS).emit(...message, (failure, answer) => {
        if (failure) resolve({ error: "no answer", unknown: true });
        else if (answer?.error) resolve({ error: answer.error.message ?? answer.error.code });
        else resolve(answer ?? {});
      });
    });
  }

  #tap() {
    const engine = this.socket.io.engine;
    if (!engine || engine === this.tapped) return;
    this.tapped = engine;
    engine.on("packet", (packet) => this.#tell("packet", { up: false, text: wireText(packet) }));
    engine.on("packetCreate", (packet) => this.#tell("packet", { up: true, text: wireText(packet) }));
    engine.on("upgrade", (transport) => this.#tell("packet", { note: `now on ${transport.name}` }));
    engine.on("close", (reason) => this.#tell("packet", { note: `closed: ${reason}` }));
  }

  #state(state, more = {}) {
    this.#tell("state", { state, ...more });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// describe makes readable text of whatever arguments an event has: our own pages send { text, from }, others anything.
function describe(args) {
  const first = args[0];
  if (args.length === 1 && first && typeof first.text === "string") {
    return { text: first.text, from: typeof first.from === "string" ? first.from : "" };
  }
  return { text: args.map((value) => JSON.stringify(value)).join(", "), from: "" };
}

function wireText({ type, data }) {
  if (data instanceof ArrayBuffer || ArrayBuffer.isView(data) || data instanceof Blob) {
    return `binary, ${data.byteLength ?? data.size} bytes`;
  }
  return `${WIRE_TYPE[type] ?? type}${data ?? ""}`;
}
