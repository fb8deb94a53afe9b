// SCRAM-SHA-x-PLUS with tls-exporter (RFC 5802, RFC 9266), which the client libraries do not speak yet: one sign-in.
// Prints a JSON line: {"mechanisms": […], "result": "success" | condition, "signature": whether the server proved itself}.

import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import process from "node:process";
import tls from "node:tls";

// `binding` is `right`, `wrong` (as with another's TLS in between) or `downgrade` (the client says the server offered none).
const [host, port, domain, user, password, hash, binding] = process.argv.slice(2);
const algorithm = { "SHA-1": "sha1", "SHA-256": "sha256" }[hash];

const socket = tls.connect({ host, port: Number(port), servername: domain });
socket.setEncoding("utf8");
let heard = "";
let wake = () => {};
socket.on("data", (text) => {
  heard += text;
  wake();
});
socket.on("close", () => wake());
socket.on("error", (error) => {
  console.error(String(error));
  process.exit(1);
});
setTimeout(() => {
  console.error(`no answer; heard ${heard}`);
  process.exit(1);
}, 20_000).unref();

async function hear(pattern) {
  for (;;) {
    const found = heard.match(pattern);
    if (found) {
      heard = heard.slice(found.index + found[0].length);
      return found;
    }
    await new Promise((resolve) => {
      wake = resolve;
    });
  }
}

const text = (base64) => Buffer.from(base64, "base64").toString();
const base64 = (value) => Buffer.from(value).toString("base64");
const hmac = (key, message) => createHmac(algorithm, key).update(message).digest();
const sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";

await new Promise((resolve) => {
  socket.once("secureConnect", resolve);
});
socket.write(
  `<?xml version='1.0'?><stream:stream to='${domain}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`,
);
const [features] = await hear(/<stream:features.*?<\/stream:features>/s);
const mechanisms = [...features.matchAll(/<mechanism>([^<]*)<\/mechanism>/g)].map((found) => found[1]);

const flag = binding === "downgrade" ? "y,," : "p=tls-exporter,,";
const exported = socket.exportKeyingMaterial(32, "EXPORTER-Channel-Binding", Buffer.alloc(0));
const data = { right: exported, wrong: randomBytes(32), downgrade: Buffer.alloc(0) }[binding];
const mechanism = `SCRAM-${hash}${binding === "downgrade" ? "" : "-PLUS"}`;
const nonce = randomBytes(18).toString("base64");
const bare = `n=${user},r=${nonce}`;
socket.write(`<auth ${sasl} mechanism='${mechanism}'>${base64(flag + bare)}</auth>`);

const outcome = /<success[^>]*>([^<]*)<\/success>|<failure[^>]*>\s*<([a-z-]+)/;
const answer = await hear(new RegExp(`<challenge[^>]*>([^<]*)</challenge>|${outcome.source}`));
let result = answer;
let signature = false;
if (answer[1]) {
  const first = text(answer[1]);
  const fields = Object.fromEntries(first.split(",").map((part) => [part[0], part.slice(2)]));
  const salted = pbkdf2Sync(password, Buffer.from(fields.s, "base64"), Number(fields.i), hmac("", "").length, algorithm);
  const key = hmac(salted, "Client Key");
  const final = `c=${base64(Buffer.concat([Buffer.from(flag), data]))},r=${fields.r}`;
  const message = `${bare},${first},${final}`;
  const mask = hmac(createHash(algorithm).update(key).digest(), message);
  const proof = base64(key.map((byte, index) => byte ^ mask[index]));
  socket.write(`<response ${sasl}>${base64(`${final},p=${proof}`)}</response>`);
  const found = await hear(outcome);
  result = [found[0], undefined, found[1], found[2]];
  signature = text(found[1] ?? "") === `v=${base64(hmac(hmac(salted, "Server Key"), message))}`;
}
console.log(JSON.stringify({ mechanisms, result: result[3] ?? "success", signature, protocol: socket.getProtocol() }));
process.exit(0);
