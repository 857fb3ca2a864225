/**
 * A client of an ezflow server, for browsers and Node: turns over HTTP, live turns over a WebSocket.
 *
 * It has no dependencies and needs nothing but fetch and WebSocket. Its types are in ezflow.d.ts.
 */

const DEFAULT_URL = "http://127.0.0.1:3421";
const SUBPROTOCOL = "ezflow.v1";
// A WebSocket cannot be told to wait: who lets more than this pile up is cut off, before memory runs out.
const QUEUE_BYTES = 64 * 1024 * 1024;
const QUEUE_EVENTS = 20_000;
// Beyond this, what a stage is doing (`stage` events) is dropped: such events are hints.
const QUEUE_HINTS = 256;
// Closing codes: what a broken connection has, and what this client gives when its user is too slow.
const BROKEN = 1006;
const TOO_SLOW = 4008;

/** What every error of this client is. */
export class EzflowError extends Error {
  name = "EzflowError";
}

/** The server does not do what it was asked for: where (`path`), why (`message`), and when to come again. */
export class Refused extends EzflowError {
  name = "Refused";

  constructor({ status = null, error = "Refused", message = error, path = null, retryAfter = null }) {
    super(message);
    Object.assign(this, { status, error, path, retryAfter });
  }
}

/** The connection ended before the turn did: the WebSocket's closing code, or 1006 where a connection broke. */
export class Closed extends EzflowError {
  name = "Closed";

  constructor(code, reason, options) {
    super(`closed (${code}): ${reason || "no reason was given"}`, options);
    Object.assign(this, { code, reason });
  }
}

/** One user of a server, or of one of its flows: `new Client("http://127.0.0.1:3421/live", { user: "ann" })`. */
export class Client {
  #token;
  #fetch;
  #WebSocket;

  constructor(url = ownOrigin(), { user = anyone(), token = "", WebSocket, fetch } = {}) {
    const base = new URL(url);
    base.protocol = base.protocol.replace("ws", "http");
    if (!base.protocol.startsWith("http")) throw new EzflowError(`an http: or https: URL is needed, not ${url}`);
    base.search = base.hash = "";
    this.url = base.href.replace(/\/+$/, "");
    this.user = user;
    this.#token = token;
    // A browser's fetch insists on being called as the window's.
    this.#fetch = fetch ?? ((...request) => globalThis.fetch(...request));
    this.#WebSocket = WebSocket;
  }

  /**
   * One item through the flow, its events as they come (`POST /turns`). It is sent when the first event is awaited;
   * leaving the loop, or aborting, ends the turn.
   */
  async *turn(input, { entry, options, timeline, signal } = {}) {
    signal?.throwIfAborted();
    const leaving = new AbortController();
    const abort = () => leaving.abort(signal.reason);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const body = { user: this.user, input: await asInput(input), entry, options, timeline };
      const request = { method: "POST", body, accept: "application/x-ndjson", signal: leaving.signal };
      const response = await this.#request(naming("/turns", this.user), request);
      const runs = new Runs();
      for await (const line of linesOf(response.body, leaving.signal)) {
        const event = withSound(parsed(line));
        if (runs.admit(event)) yield event;
        if (event.type === "turn.ended") return;
      }
      throw new Closed(BROKEN, "the answer ended before its turn did");
    } finally {
      signal?.removeEventListener("abort", abort);
      leaving.abort();
    }
  }

  /** Ends this user's turn, whoever began it: its number when every stage has left, null if there was none. */
  async interrupt({ signal } = {}) {
    const request = { method: "POST", body: { user: this.user }, signal };
    const { turn } = await this.#json(naming("/interrupt", this.user), request);
    return turn;
  }

  /** The flow's stages, types and joins (`GET /flow`). */
  flow({ signal } = {}) {
    return this.#json("/flow", { signal });
  }

  /** The JSON Schema of a request (`turns`), or of what is answered (`events`). */
  schema(of = "turns", { signal } = {}) {
    return this.#json(`/schema?of=${encodeURIComponent(of)}`, { signal });
  }

  /** Whether all is there that the flow stands on: `{ status: "ready" | "unready" | "stopping", … }`. */
  ready({ signal } = {}) {
    return this.#json("/health/ready", { signal, answers: [503] });
  }

  /** A WebSocket for live turns, one after the other; resolves when the server is ready. */
  async connect({ signal } = {}) {
    signal?.throwIfAborted();
    const Chosen = this.#WebSocket ?? globalThis.WebSocket;
    if (!Chosen) {
      throw new EzflowError(
        "there is no WebSocket here: use Node 22, or Node 20 with --experimental-websocket, or hand in a class: " +
          "new Client(url, { WebSocket })",
      );
    }
    const url = `${this.url.replace("http", "ws")}${naming("/ws", this.user)}`;
    let webSocket;
    try {
      webSocket = new Chosen(url, this.#token ? [SUBPROTOCOL, `token.${this.#token}`] : [SUBPROTOCOL]);
    } catch (cause) {
      throw new EzflowError(`no WebSocket takes this URL and this token: ${cause.message}`, { cause });
    }
    const socket = new Socket(webSocket, signal);
    await socket._ready;
    return socket;
  }

  /** A live turn on a WebSocket of its own, which is closed at the turn's end. */
  async live({ signal, ...start } = {}) {
    const socket = await this.connect({ signal });
    const live = socket.start(start);
    live._owned = true;
    live._finished.then(() => socket.close());
    return live;
  }

  async #json(path, request) {
    const response = await this.#request(path, request);
    try {
      return await response.json();
    } catch (cause) {
      if (request.signal?.aborted) throw request.signal.reason;
      throw new EzflowError(`${this.url}${path} did not answer in JSON: is it an ezflow server?`, { cause });
    }
  }

  async #request(path, { method = "GET", body, accept = "application/json", signal, answers = [] }) {
    const headers = { Accept: accept };
    if (body) headers["Content-Type"] = "application/json";
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    const request = { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store" };
    let response;
    try {
      response = await this.#fetch(this.url + path, request);
    } catch (cause) {
      if (signal?.aborted) throw signal.reason;
      throw new Closed(BROKEN, `${this.url} does not answer: ${told(cause)}`, { cause });
    }
    if (!response.ok && !answers.includes(response.status)) throw await refusalOf(response);
    return response;
  }
}

/**
 * A WebSocket that live turns are held on, one after the other. Made by `Client.connect`.
 *
 * The server complains of a frame without saying of which. But it answers frames in order: what comes between the
 * pongs of two pings answers what was sent between the pings. So each `start` stands between two.
 */
export class Socket {
  session = "";
  flow = null;
  closed;

  #webSocket;
  #left = false;
  #gone = new Closed(BROKEN, "this socket is being closed: connect again");
  #opened = deferred();
  #pongs = [];
  // The turn whose `start` is being answered; the turns that are not over, the running one first.
  #asked = null;
  #turns = [];
  // The turn that inputs are for; and what it may not send yet, since another turn still takes what is sent.
  #fed = null;
  #held = null;
  // The audio event whose sound comes next.
  #announced = null;

  constructor(webSocket, signal) {
    this.#webSocket = webSocket;
    webSocket.binaryType = "arraybuffer";
    const closed = deferred();
    this.closed = closed.promise;
    this._ready = this.#opened.promise;
    const abort = () => this.#leave(signal.reason);
    signal?.addEventListener("abort", abort, { once: true });
    const end = (code, reason) => {
      signal?.removeEventListener("abort", abort);
      this.#gone = new Closed(code, reason);
      this.#leave(this.#gone);
      closed.resolve(this.#gone);
    };
    webSocket.addEventListener("message", ({ data }) => this.#receive(data));
    webSocket.addEventListener("close", ({ code, reason }) => {
      end(code, reason || (code === BROKEN ? this.#broken() : ""));
    });
    webSocket.addEventListener("error", (event) => {
      const trouble = event.message || told(event.error);
      // `close` comes with it, but from Node's WebSocket not if there never was a connection.
      setTimeout(() => end(BROKEN, [this.#broken(), trouble].filter(Boolean).join(" ")));
    });
  }

  /** Bytes that were sent, and that the network has not taken. */
  get buffered() {
    return this.#webSocket.bufferedAmount;
  }

  /** Begins a live turn; one that still runs is ended first. Raises: Closed. */
  start({ entry, options, timeline, format } = {}) {
    if (this.#left) throw this.#gone;
    const before = this.#fed?.over === false ? this.#fed : null;
    const live = new Live(this, format, before);
    this.#fed = live;
    // Should the start be refused, what is sent now would reach the turn before it.
    this.#held = before && [];
    this.#turns.push(live);
    this.#ping(() => (this.#asked = live));
    this.#send({ type: "start", entry, options, timeline, format });
    this.#ping(() => this.#answered(live));
    return live;
  }

  /** How many milliseconds it is to the server and back. Raises: Closed. */
  async ping() {
    const began = performance.now();
    const pong = new Promise((resolve) => (this.#left ? undefined : this.#ping(resolve)));
    const closed = await Promise.race([pong, this.closed]);
    if (closed) throw closed;
    return performance.now() - began;
  }

  /** Closes the socket, and thereby ends its turn; resolves when it is closed. */
  async close() {
    this.#leave(null);
    await this.closed;
  }

  /** For Live: sends a frame of its turn. False if the turn takes no more. */
  _post(live, frame) {
    if (this.#left || live.over || this.#fed !== live) return false;
    if (this.#held) this.#held.push(frame);
    else this.#send(frame);
    return true;
  }

  #broken() {
    return this.flow ? "the connection broke" : "no connection: is the server up, and may this page use it?";
  }

  #send(frame) {
    this.#webSocket.send(ArrayBuffer.isView(frame) ? frame : JSON.stringify(frame));
  }

  #ping(pong) {
    this.#pongs.push(pong);
    this.#send({ type: "ping" });
  }

  #receive(data) {
    if (this.#left) return;
    try {
      if (typeof data === "string") this.#receiveText(parsed(data));
      else this.#receiveSound(new Uint8Array(data));
    } catch (error) {
      this.#leave(error);
    }
  }

  #receiveText(event) {
    if (this.#announced) throw new EzflowError(`a sound was announced, but ${event.type} came`);
    if (event.type === "ready") {
      this.session = event.session;
      this.flow = event.flow;
      this.#opened.resolve();
    } else if (event.type === "pong") {
      this.#pongs.shift()?.();
    } else if (event.type === "error" && event.turn === undefined) {
      this.#complain(event);
    } else if (event.type === "audio" && event.bytes > 0) {
      this.#announced = event;
    } else {
      this.#tell(withSound(event));
    }
  }

  #receiveSound(bytes) {
    const event = this.#announced;
    if (event === null && bytes.length === 0) return; // of an audio event of 0 bytes, which has been told
    if (bytes.length !== event?.bytes) {
      throw new EzflowError(`${bytes.length} bytes of sound came, but ${event?.bytes ?? 0} were announced`);
    }
    this.#announced = null;
    this.#tell(withSound(event, bytes));
  }

  #tell(event) {
    if (event.type === "turn.started") {
      const begun = this.#turns.find(({ turn }) => turn === null);
      if (begun) begun.turn = event.turn;
    }
    const live = this.#turns.find(({ turn }) => turn !== null && turn === event.turn);
    if (!live) return;
    if (event.type === "turn.ended") this.#turns.splice(this.#turns.indexOf(live), 1);
    if (!live._tell(event)) throw new Closed(TOO_SLOW, "events came faster than they were taken");
  }

  /** The server did not take a frame: a `start`, and there is no turn; or an input, and the turn goes on. */
  #complain(event) {
    const taken = this.#turns.filter(({ _taken }) => _taken);
    if (this.#asked) this.#refuse(this.#asked, event);
    else if (event.error === "StageStuck") this.#refuse(taken[0], event);
    // Without a turn that waits to begin, this answers what was sent before it was known that its turn is over.
    else if (event.error === "TurnClosedError") this.#refuse(taken.find(({ turn }) => turn === null), event);
    else if (this.#fed?.over === false) this.#fed._tell(event);
  }

  #refuse(live, event) {
    const place = this.#turns.indexOf(live);
    if (place < 0) return;
    this.#turns.splice(place, 1);
    live._finish(new Refused(event));
    if (this.#fed !== live) return;
    this.#fed = live._before();
    this.#held = null;
  }

  #answered(live) {
    this.#asked = null;
    live._take();
    if (this.#fed !== live || !this.#held) return;
    const held = this.#held;
    this.#held = null;
    for (const frame of held) this.#send(frame);
  }

  /** Takes nothing more from the server. Every turn fails with this error; without one, it just ends. */
  #leave(error) {
    if (this.#left) return;
    this.#left = true;
    this.#opened.promise.catch(() => {}); // nobody may be waiting for it any more
    this.#opened.reject(error);
    for (const live of this.#turns.splice(0)) live._finish(error);
    this.#webSocket.close(error?.code === TOO_SLOW ? TOO_SLOW : 1000);
  }
}

/** A live turn: an iterator over its events, and what feeds it. Made by `Socket.start` and `Client.live`. */
export class Live {
  turn = null;
  over = false;
  // For Socket: has the start been taken, and has the turn a socket of its own?
  _taken = false;
  _owned = false;

  #socket;
  #format;
  #earlier;
  #runs = new Runs();
  #events = [];
  #bytes = 0;
  #askers = [];
  #error = null;
  #inputEnded = false;
  #left = false;
  #finish = deferred();

  constructor(socket, format, earlier) {
    this.#socket = socket;
    this.#format = { rate_hz: 16_000, channels: 1, ...format };
    this.#earlier = earlier;
    this._finished = this.#finish.promise;
  }

  /** Bytes that were sent, and that the network has not taken. */
  get buffered() {
    return this.#socket.buffered;
  }

  /**
   * Feeds the turn. Bytes are sound, PCM16 in the turn's format or a whole WAV; anything else is an item of text or
   * JSON. False if the turn is over, as its events tell. Raises: EzflowError after `end`.
   */
  send(data, { entry } = {}) {
    if (this.#inputEnded) throw new EzflowError("the input of this turn has ended: start another turn");
    const bytes = asBytes(data);
    if (bytes === null) return this.#socket._post(this, { type: "input", data, entry });
    // A binary frame holds samples alone, for the turn's own entry.
    if (entry === undefined && !isWav(bytes)) return this.#socket._post(this, bytes.slice());
    const sound = isWav(bytes) ? bytes : wav(bytes, this.#format.rate_hz, this.#format.channels);
    return this.#socket._post(this, { type: "input", data: toBase64(sound), entry });
  }

  /** No more input: the turn runs out. */
  end() {
    if (!this.#inputEnded) this.#socket._post(this, { type: "end" });
    this.#inputEnded = true;
  }

  /** Stops the running reply and goes on listening; `interrupted` follows when every stage has left. */
  interrupt() {
    this.#socket._post(this, { type: "interrupt" });
  }

  /** Reports how much of an audio event was heard: an interrupted answer's history holds that much. */
  played(event, ms) {
    this.#socket._post(this, { type: "played", turn: event.turn, seq: event.seq, ms });
  }

  /** Leaves the turn, whose events are told no more; resolves when it has ended. */
  async close() {
    this.#left = true;
    this.#events = [];
    this.#error = null;
    for (const asker of this.#askers.splice(0)) asker.resolve({ value: undefined, done: true });
    if (this._owned) return this.#socket.close();
    this.interrupt();
    this.end();
    await this._finished;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** The next event; done after `turn.ended`. Raises: Closed if the socket ends before; Refused if the start was. */
  async next() {
    const event = this.#events.shift();
    if (event) {
      this.#bytes -= event.pcm?.byteLength ?? 0;
      return { value: event, done: false };
    }
    if (!this.over && !this.#left) {
      const asker = deferred();
      this.#askers.push(asker);
      return asker.promise;
    }
    const error = this.#error;
    this.#error = null;
    if (error) throw error;
    return { value: undefined, done: true };
  }

  /** Called by a `for await` that is left early: closes the turn. */
  async return(value) {
    await this.close();
    return { value, done: true };
  }

  /** For Socket: hands on an event of this turn. False if too many are waiting. */
  _tell(event) {
    if (!this.#left && this.#runs.admit(event)) this.#put(event);
    if (event.type === "turn.ended") this._finish(null);
    return this.#events.length <= QUEUE_EVENTS && this.#bytes <= QUEUE_BYTES;
  }

  /** For Socket: nothing more comes of this turn. */
  _finish(error) {
    this.over = true;
    this.#error = this.#left ? null : error;
    const askers = this.#askers.splice(0);
    if (this.#error && askers.length) {
      askers.shift().reject(this.#error);
      this.#error = null;
    }
    for (const asker of askers) asker.resolve({ value: undefined, done: true });
    this.#finish.resolve();
  }

  /** For Socket: the start was good. */
  _take() {
    this._taken = true;
    this.#earlier = null;
  }

  /** For Socket: should the start be refused, the turn before it that still runs. */
  _before() {
    const earlier = this.#earlier;
    return earlier?.over ? earlier._before() : earlier;
  }

  #put(event) {
    if (event.type === "interrupted") this.#drop(event.run);
    if (this.#askers.length) return this.#askers.shift().resolve({ value: event, done: false });
    if (event.type === "stage" && this.#events.length >= QUEUE_HINTS) return;
    this.#events.push(event);
    this.#bytes += event.pcm?.byteLength ?? 0;
  }

  /** What a run answered is not wanted any more; what it heard, and what failed in it, is. */
  #drop(run) {
    const kept = ["transcript", "error", "turn.started", "interrupted"];
    this.#events = this.#events.filter((event) => event.run !== run || kept.includes(event.type));
    this.#bytes = this.#events.reduce((sum, { pcm }) => sum + (pcm?.byteLength ?? 0), 0);
  }
}

/** Which runs of a turn are over: of these no event is told any more. */
class Runs {
  #over = new Set();

  admit({ type, run }) {
    if (this.#over.has(run)) return false;
    if (type === "interrupted" && run !== undefined) this.#over.add(run);
    return true;
  }
}

/** PCM16 as a WAV file: one piece of sound, or several in a row. */
export function wav(sound, rate_hz, channels = 1) {
  const pieces = (Array.isArray(sound) ? sound : [sound]).map(asBytes);
  const size = pieces.reduce((sum, { length }) => sum + length, 0);
  const file = new Uint8Array(44 + size);
  const head = new DataView(file.buffer);
  const words = { 0: "RIFF", 8: "WAVE", 12: "fmt ", 36: "data" };
  for (const [place, word] of Object.entries(words)) file.set(new TextEncoder().encode(word), Number(place));
  head.setUint32(4, 36 + size, true);
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, channels, true);
  head.setUint32(24, rate_hz, true);
  head.setUint32(28, 2 * channels * rate_hz, true);
  head.setUint16(32, 2 * channels, true);
  head.setUint16(34, 16, true);
  head.setUint32(40, size, true);
  let place = 44;
  for (const piece of pieces) {
    file.set(piece, place);
    place += piece.length;
  }
  return file;
}

/** The lines of a body, however it is cut into pieces. Raises: Closed if it breaks off. */
async function* linesOf(body, signal) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let begun = [];
  for (let last = false; !last; ) {
    let piece;
    try {
      piece = await reader.read();
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      throw new Closed(BROKEN, `the connection broke: ${told(cause)}`, { cause });
    }
    last = piece.done;
    const parts = decoder.decode(piece.value, { stream: !last }).split("\n");
    if (last) parts.push("");
    begun.push(parts.shift());
    for (const part of parts) {
      const line = begun.join("");
      if (line.trim()) yield line;
      begun = [part];
    }
  }
}

function parsed(line) {
  let event;
  try {
    event = JSON.parse(line);
  } catch (cause) {
    throw new EzflowError(`the server sent what is not JSON: ${line.slice(0, 60)}`, { cause });
  }
  if (typeof event?.type !== "string") throw new EzflowError(`the server sent what is no event: ${line.slice(0, 60)}`);
  return event;
}

/** An event as it is told: an audio event has its samples, however they came. */
function withSound(event, bytes = null) {
  if (event.type !== "audio") return event;
  const { data = "", bytes: _, ...rest } = event;
  const sound = bytes ?? Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  return { ...rest, pcm: new Int16Array(sound.buffer, 0, sound.length >> 1) };
}

async function refusalOf(response) {
  const text = await response.text().catch(() => "");
  let body = {};
  try {
    body = Object(JSON.parse(text));
  } catch {
    // A proxy's page, say: the status has to do.
  }
  const { error = `HTTP ${response.status}`, path, detail, message = detail ?? (text.slice(0, 200) || error) } = body;
  return new Refused({ status: response.status, error, message, path, retryAfter: secondsUntil(response) });
}

function secondsUntil(response) {
  const when = response.headers.get("Retry-After");
  if (!when) return null;
  const seconds = Number.isNaN(Number(when)) ? (Date.parse(when) - Date.now()) / 1000 : Number(when);
  return Number.isNaN(seconds) ? null : Math.max(0, seconds);
}

/** What a request or an input frame holds for this: base64 for sound, anything else as it is. */
async function asInput(input) {
  const bytes = asBytes(globalThis.Blob && input instanceof Blob ? await input.arrayBuffer() : input);
  return bytes ? toBase64(bytes) : input;
}

function asBytes(data) {
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return data instanceof ArrayBuffer ? new Uint8Array(data) : null;
}

function isWav(bytes) {
  const word = (place) => String.fromCharCode(...bytes.subarray(place, place + 4));
  return word(0) === "RIFF" && word(8) === "WAVE";
}

function toBase64(bytes) {
  let text = "";
  // So many arguments every engine takes.
  for (let place = 0; place < bytes.length; place += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(place, place + 0x8000));
  }
  return btoa(text);
}

function ownOrigin() {
  const origin = globalThis.location?.origin;
  return origin?.startsWith("http") ? origin : DEFAULT_URL;
}

function anyone() {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  return `js-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * A path that names a user, though the body may too: a proxy before several servers sees no bodies. One user is always
 * written in one way, which Python's and C#'s clients write too.
 */
function naming(path, user) {
  const escaped = (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
  return `${path}?user=${encodeURIComponent(user).replace(/[!'()*]/g, escaped)}`;
}

function told(error) {
  return error?.cause?.message || error?.message || "";
}

function deferred() {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}
