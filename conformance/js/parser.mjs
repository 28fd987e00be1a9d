// The official parser reads the corpus that our own is tested with. It must accept what we accept, with the same meaning; of
// what we refuse it may accept only what is listed here, each with the reason why we are stricter.

import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import { report } from "./harness.mjs";

const { Decoder } = createRequire(import.meta.resolve("socket.io-client"))("socket.io-parser");

// The reason that we give, what the wire looks like, and why.
const STRICTER = [
  [/empty packet/, /^$/, "nothing has no type; the reference reads a CONNECT"],
  [/payload is no array/, /^(2|5\d+-)(\d+|\/[^,]*,?)?$/, "an event without a payload has no name"],
  [/payload is no array/, /^3\d*$/, "an ack without an answer"],
  [/payload/, /^\d(\/[^,]*,)?\d*\s/, "blanks, and a byte order mark, are no digits"],
  [/ack without id/, /./, "an ack answers something"],
  [/ack id (malformed|too large)/, /./, "a number that JavaScript would change on the way"],
  [/ack id where none can be/, /./, "nothing answers a CONNECT or DISCONNECT"],
  [/attachment count/, /./, "a count is digits, without a leading zero"],
  [/placeholder names no attachment/, /./, "an index is written as digits"],
  [/control character in namespace/, /./, "no namespace has one"],
];

let failed = 0;
const lines = fs.readFileSync(process.env.HOLDPOST_CORPUS, "utf8").split("\n");
lines.forEach((line, i) => {
  if (line === "" || line.startsWith("#")) return;
  const [verdict, quoted, meaning] = line.split("\t");
  if (/\\x[89a-f]/.test(quoted)) return; // invalid UTF-8 never gets as far as a JavaScript string
  const wire = quoted.startsWith('"') ? JSON.parse(quoted.replaceAll("\\x", "\\u00")) : quoted;
  let packet, error;
  try {
    packet = decode(wire);
  } catch (e) {
    error = e;
  }
  try {
    if (verdict === "ok") {
      if (error) throw error;
      same(packet, meaning);
    } else if (packet) {
      const known = STRICTER.find(([reason, form]) => reason.test(meaning) && form.test(wire));
      assert.ok(known, `we refuse ${JSON.stringify(wire)} (${meaning}), the reference does not: ${JSON.stringify(packet)}`);
    }
  } catch (e) {
    failed++;
    report({ case: `line ${i + 1}`, error: e.stack });
  }
});
report({ case: "corpus", error: failed > 0 ? `${failed} lines differ` : undefined });
process.exit(0);

function decode(wire) {
  const decoder = new Decoder();
  let packet;
  decoder.on("decoded", (p) => (packet = p));
  decoder.add(wire);
  for (let i = 0; !packet && i < 20; i++) decoder.add(Buffer.from([i]));
  return packet ?? assert.fail("never complete");
}

// same compares a packet with the meaning that the corpus gives it, as far as JavaScript can tell.
function same(packet, meaning) {
  const [type, nsp, id] = meaning.split(" ");
  const types = ["CONNECT", "DISCONNECT", "EVENT", "ACK", "CONNECT_ERROR", "BINARY_EVENT", "BINARY_ACK"];
  assert.equal(types[packet.type].replace("BINARY_", ""), type.replace("BINARY_", ""));
  assert.equal(packet.nsp, nsp);
  assert.equal(packet.id === undefined ? "-" : String(packet.id), id);
  const name = /^\S+ \S+ \S+ ("(?:[^"\\]|\\.)*")/.exec(meaning)?.[1];
  if (type.endsWith("EVENT") && !name.includes("\uFFFD") && typeof packet.data[0] === "string") {
    assert.equal(packet.data[0], JSON.parse(name.replaceAll("\\x", "\\u00")));
  }
}
