// Runs the reference's parsers. Each line of input is one job, [parser, text or base64, ...attachments in base64]; each line
// of output is what came of it: { packets, error }. Binary values are { "$binary": base64 }.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const { Decoder } = require("socket.io-parser");
const { decodePayload } = require("engine.io-parser");
const v3 = createRequire(require.resolve("socket.io-client-2.5/package.json"))("engine.io-parser");
const msgpack = require("socket.io-msgpack-parser");

function plain(value) {
  if (Buffer.isBuffer(value) || value instanceof ArrayBuffer) {
    return { $binary: Buffer.from(value).toString("base64") };
  }
  if (Array.isArray(value)) return Array.from(value, plain);
  if (value && typeof value === "object" && !(value instanceof Date)) {
    return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, plain(v)]));
  }
  return value;
}

function decodeWith(decoder, messages) {
  const packets = [];
  decoder.on("decoded", (p) => packets.push(plain({ type: p.type, nsp: p.nsp, id: p.id, data: p.data })));
  for (const m of messages) decoder.add(m);
  return packets;
}

function decodeV3(decode, body) {
  const packets = [];
  decode(body, "nodebuffer", (p) => {
    packets.push(p);
    return p.type !== "error";
  });
  return packets;
}

const parsers = {
  packet: (text, ...attachments) =>
    decodeWith(new Decoder(), [text, ...attachments.map((a) => Buffer.from(a, "base64"))]),
  msgpack: (body) => decodeWith(new msgpack.Decoder(), [Buffer.from(body, "base64")]),
  payload: (text) => decodePayload(text, "nodebuffer").map(plain),
  payload3: (text) => decodeV3(v3.decodePayload, text).map(plain),
  binary3: (body) => decodeV3(v3.decodePayloadAsBinary, Buffer.from(body, "base64")).map(plain),
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const [parser, ...args] = JSON.parse(line);
  let result;
  try {
    const packets = parsers[parser](...args);
    const failed = packets.findIndex((p) => p.type === "error"); // how the payload decoders tell; one of them goes on behind it
    result = failed < 0 ? { packets } : { packets: packets.slice(0, failed), error: "parser error" };
  } catch (e) {
    result = { error: String(e.message) };
  }
  process.stdout.write(JSON.stringify(result) + "\n");
});
