// A person with @xmpp/client. Orders come as JSON lines on standard input, what happens goes as JSON lines to standard output.

import process from "node:process";
import readline from "node:readline";

import { client, xml } from "@xmpp/client";

const [service, domain, username, password, resource] = process.argv.slice(2);
const entity = client({ service, domain, username, password, resource });
const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

// Stanzas that were ordered while there was no session; they go out, in order, when there is one again.
const waiting = [];
let leaving = false;

// The library puts a stanza into its queue of what is not acknowledged only when it is written: one whose write failed, or
// ended after the connection did, would be in no queue, and neither sent again at a resumption nor told of.
const counted = new WeakSet();
entity.on("send", (stanza) => {
  if (entity.streamManagement.enabled) counted.add(stanza);
});

async function send(stanza) {
  const management = entity.streamManagement;
  if (entity.status !== "online" || waiting.length > 0) {
    waiting.push(stanza);
    return;
  }
  const managed = management.enabled;
  await entity.send(stanza).catch(() => {});
  if (managed && !counted.has(stanza)) {
    management.outbound_q.push({ stanza, stamp: new Date().toISOString() });
  }
}

function flush() {
  const stanzas = waiting.splice(0);
  stanzas.forEach(send);
}

entity.on("online", (address) => {
  tell({ event: "online", jid: address.toString(), secure: entity.isSecure() });
  flush();
});
entity.streamManagement.on("resumed", () => {
  tell({ event: "resumed" });
  // The client calls itself online only after this event.
  setImmediate(flush);
});
entity.streamManagement.on("fail", (stanza) => tell({ event: "lost", stanza: stanza.toString() }));
entity.on("disconnect", () => tell({ event: "disconnect" }));
entity.on("error", (error) => tell({ event: "error", text: String(error), condition: error.condition }));
entity.on("stanza", (stanza) => {
  tell({
    event: stanza.name,
    from: stanza.attrs.from,
    to: stanza.attrs.to,
    type: stanza.attrs.type,
    id: stanza.attrs.id,
    body: stanza.getChildText("body"),
    show: stanza.getChildText("show"),
    xml: stanza.toString(),
  });
});

const orders = {
  message: ({ to, body, type = "chat" }) => send(xml("message", { to, type, id: `js-${body}` }, xml("body", {}, body))),
  presence: ({ to, type, show }) => send(xml("presence", { to, type }, show ? xml("show", {}, show) : undefined)),
  iq: async ({ type, to, name, xmlns, token }) => {
    try {
      const answer = await entity.iqCaller.request(xml("iq", { type, to }, xml(name, { xmlns })), 10_000);
      tell({ event: "answer", token, xml: answer.toString() });
    } catch (error) {
      tell({ event: "answer", token, error: error.condition ?? String(error) });
    }
  },
  stop: async () => {
    leaving = true;
    await entity.stop().catch(() => {});
    process.exit(0);
  },
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { do: what, ...rest } = JSON.parse(line);
  orders[what](rest);
});
process.stdin.on("close", () => {
  if (!leaving) process.exit(0);
});

entity.start().catch((error) => tell({ event: "refused", text: String(error), condition: error.condition }));
