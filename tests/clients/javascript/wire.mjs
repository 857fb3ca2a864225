// A server whose every word a test says itself, over real sockets on loopback: HTTP, and WebSockets as they are framed.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

export const playground = new URL("../../../ezflow/server/playground/", import.meta.url);
export const { Client, Closed, EzflowError, Refused, wav } = await import(new URL("ezflow.js", playground));

/** Runs `use(url)` while `answer(request, response, body)` answers requests and `talk(peer)` holds WebSockets. */
export async function serving({ answer, talk }, use) {
  const server = createServer(async (request, response) => {
    const pieces = await request.toArray();
    answer(request, response, Buffer.concat(pieces).toString());
  });
  const talks = [];
  server.on("upgrade", (request, stream) => talks.push(talk(accepted(request, stream))));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await use(`http://127.0.0.1:${server.address().port}`);
    await Promise.all(talks);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** All that an iterator gives. */
export async function all(events) {
  const told = [];
  for await (const event of events) told.push(event);
  return told;
}

export const types = (events) => events.map(({ type }) => type);
export const line = (event) => `${JSON.stringify(event)}\n`;

function accepted(request, stream) {
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(", ").filter(Boolean);
  const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  stream.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${createHash("sha1").update(key).digest("base64")}\r\n` +
      (offered.length ? `Sec-WebSocket-Protocol: ${offered[0]}\r\n\r\n` : "\r\n"),
  );
  stream.setNoDelay(true);
  return new Peer(request.url, offered, stream);
}

/** The server's end of one WebSocket. */
class Peer {
  #frames;

  constructor(url, offered, stream) {
    this.url = url;
    this.offered = offered;
    this.stream = stream;
    stream.on("error", () => {}); // the client may be gone
    this.#frames = framesOf(stream);
  }

  /** Sends an event, or bytes; `cut` sends it in pieces of so many bytes. */
  async send(message, { cut = Infinity } = {}) {
    const isSound = ArrayBuffer.isView(message);
    const frame = framed(isSound ? 2 : 1, isSound ? Buffer.from(message.buffer) : Buffer.from(JSON.stringify(message)));
    for (let place = 0; place < frame.length; place += cut) {
      await new Promise((resolve) => this.stream.write(frame.subarray(place, place + cut), resolve));
    }
  }

  async ready(flow = { name: "voice" }) {
    await this.send({ type: "ready", session: "ann", flow });
  }

  /** The next frame: an object, bytes, or `{ closed: code }`. */
  async receive() {
    const { value, done } = await this.#frames.next();
    return done ? { closed: 1006 } : value;
  }

  async expect(type) {
    const frame = await this.receive();
    assert.equal(frame.type, type, JSON.stringify(frame));
    return frame;
  }

  /** Takes a `start`, between its two pings, and says what there is to say of it before the second is answered. */
  async started(...complaints) {
    await this.expect("ping");
    await this.send({ type: "pong" });
    const start = await this.expect("start");
    for (const complaint of complaints) await this.send({ type: "error", ...complaint });
    await this.expect("ping");
    await this.send({ type: "pong" });
    return start;
  }

  async close(code, reason = "") {
    const head = Buffer.alloc(2);
    head.writeUInt16BE(code);
    this.stream.end(framed(8, Buffer.concat([head, Buffer.from(reason)])));
    while (!(await this.#frames.next()).done);
  }

  /** Answers the client's closing; gives its code. */
  async closed() {
    const { closed } = await this.receive();
    if (closed !== 1006) await this.close(closed);
    return closed;
  }

  drop() {
    this.stream.destroy();
  }
}

function framed(opcode, payload) {
  const head = [0x80 | opcode];
  if (payload.length < 126) head.push(payload.length);
  else if (payload.length < 65_536) head.push(126, payload.length >> 8, payload.length & 255);
  else head.push(127, 0, 0, 0, 0, ...[24, 16, 8, 0].map((shift) => (payload.length >>> shift) & 255));
  return Buffer.concat([Buffer.from(head), payload]);
}

async function* framesOf(stream) {
  let held = Buffer.alloc(0);
  const pieces = stream[Symbol.asyncIterator]();
  const take = async (length) => {
    while (held.length < length) {
      const { value, done } = await pieces.next().catch(() => ({ done: true }));
      if (done) return null;
      held = Buffer.concat([held, value]);
    }
    const taken = held.subarray(0, length);
    held = held.subarray(length);
    return taken;
  };
  for (let head; (head = await take(2)); ) {
    let length = head[1] & 127;
    if (length === 126) length = (await take(2)).readUInt16BE();
    else if (length === 127) length = Number((await take(8)).readBigUInt64BE());
    const mask = await take(4);
    const payload = Buffer.from(await take(length)).map((byte, place) => byte ^ mask[place % 4]);
    const opcode = head[0] & 15;
    if (opcode === 1) yield JSON.parse(payload);
    else if (opcode === 2) yield payload;
    else if (opcode === 8) yield { closed: payload.length ? payload.readUInt16BE() : 1005 };
  }
}
