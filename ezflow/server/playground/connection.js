// The page's tie to the server: which flows it has, the socket of the chosen one, and getting it back when it is lost.

import { Client, Closed, Refused } from "./ezflow.js";
import { Emitter } from "./dom.js";

// A server that has not answered after so long is taken to be away.
const ANSWER_MS = 5000;
const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 8000;
// From so many failures on it is no short restart any more.
const OFFLINE_AFTER = 6;

// Emits "status" (state, words), "flow" (the chosen flow's description), "denied" (why a token is needed).
export class Connection extends Emitter {
  /** Descriptions of all flows as `GET /flow` gives them, by name; the first is the server's first. */
  flows = new Map();
  /** The chosen flow's description; null before the first answer. */
  flow = null;
  /** The open socket of the chosen flow, or null. */
  socket = null;

  #base;
  #user;
  #token;
  #chosen = null;
  #epoch = 0;
  #failures = 0;
  #denied = false;
  #wake = () => {};
  #opened = [];

  constructor(base, user, token) {
    super();
    this.#base = base;
    this.#user = user;
    this.#token = token;
    for (const what of ["online", "offline"]) addEventListener(what, () => this.#look());
    document.addEventListener("visibilitychange", () => document.hidden || this.#look());
  }

  get user() {
    return this.#user;
  }

  /** A client of that flow, by default of the chosen one. */
  client(name = this.#chosen) {
    const options = { user: this.#user, token: this.#token };
    return new Client(name ? `${this.#base}/${encodeURIComponent(name)}` : this.#base, options);
  }

  /** Connect, and stay so: anew whenever the connection is lost. Returns when `identify` or `choose` begins another. */
  async open() {
    const epoch = ++this.#epoch;
    this.#failures = 0;
    this.#denied = false;
    this.#drop();
    this.emit("status", "connecting", "Connecting …");
    while (epoch === this.#epoch) {
      try {
        await this.#connect(epoch);
      } catch (error) {
        if (epoch !== this.#epoch) return;
        this.socket = null;
        if (denies(error)) {
          this.#denied = true;
          this.emit("status", "offline", "Offline: a token is needed");
          this.emit("denied", error.reason || error.message);
          return;
        }
        await this.#wait(error);
      }
    }
  }

  /** Be another user, or show another token. */
  identify(user, token) {
    this.#user = user;
    this.#token = token;
    this.open();
  }

  /** Change to another flow; resolves once its socket is open. */
  async choose(name) {
    if (name === this.#chosen && this.socket) return this.socket;
    const changes = name !== this.#chosen;
    this.#chosen = name;
    if (changes && this.flows.has(name)) this.#show(this.flows.get(name));
    if (changes || !this.socket) this.open();
    return this.opened();
  }

  /** The socket, once it is open; another than `lost`. */
  opened(lost = null) {
    const open = this.socket !== null && this.socket !== lost;
    return open ? Promise.resolve(this.socket) : new Promise((resolve) => this.#opened.push(resolve));
  }

  /** The socket, after the server has answered on it; another one if it does not. */
  async check() {
    const { socket } = this;
    if (!socket) return this.opened();
    const silent = new Promise((resolve) => setTimeout(() => resolve(null), ANSWER_MS));
    const answered = await Promise.race([socket.ping().catch(() => null), silent]);
    if (answered === null && socket === this.socket) this.open(); // a lost network ends no connection by itself
    return this.opened();
  }

  /** Try again now rather than later. */
  retry() {
    if (this.#denied) this.open();
    else this.#wake();
  }

  async #connect(epoch) {
    const { signal, stop } = timeout();
    let socket;
    try {
      await this.#describe(signal);
      if (epoch !== this.#epoch) return;
      socket = await this.client().connect({ signal });
    } finally {
      stop();
    }
    if (epoch !== this.#epoch) {
      socket.close();
      return;
    }
    this.socket = socket;
    this.#failures = 0;
    this.emit("status", "connected", "Connected");
    for (const resolve of this.#opened.splice(0)) resolve(socket);
    throw await socket.closed;
  }

  /** Ask for all flows. A restarted server may have others. */
  async #describe(signal) {
    const first = await new Client(this.#base, { user: this.#user, token: this.#token }).flow({ signal });
    const others = (first.flows ?? []).filter((name) => name !== first.name);
    const rest = await Promise.all(others.map((name) => this.client(name).flow({ signal })));
    this.flows = new Map([first, ...rest].map((flow) => [flow.name ?? "", flow]));
    if (!this.flows.has(this.#chosen)) this.#chosen = first.name ?? "";
    this.#show(this.flows.get(this.#chosen));
  }

  /** The page is back, or the network has changed: is the server still there? */
  #look() {
    this.#wake();
    this.check();
  }

  #show(flow) {
    if (JSON.stringify(flow) === JSON.stringify(this.flow)) return;
    this.flow = flow;
    this.emit("flow", flow);
  }

  #drop() {
    const { socket } = this;
    this.socket = null;
    this.#wake();
    socket?.close();
  }

  async #wait(error) {
    this.#failures += 1;
    const idle = error instanceof Closed && error.code === 1000;
    if (idle && this.#failures === 1) return; // the server closes a socket that nobody uses
    const [state, words] =
      this.#failures <= OFFLINE_AFTER && navigator.onLine
        ? ["reconnecting", `Reconnecting: ${why(error)}`]
        : ["offline", navigator.onLine ? `Offline: ${why(error)}` : "Offline: this device has no network"];
    this.emit("status", state, words);
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (this.#failures - 1));
    // Not all pages of a restarted server at the same moment.
    const wait = longest * (0.75 + Math.random() / 4);
    await new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, wait);
    });
  }
}

/** A signal that aborts when the server does not answer in time, unless it is stopped. */
function timeout() {
  const controller = new AbortController();
  const late = new Closed(1006, "the server does not answer");
  const timer = setTimeout(() => controller.abort(late), 2 * ANSWER_MS);
  return { signal: controller.signal, stop: () => clearTimeout(timer) };
}

/** Does the server ask for a token, or for another? */
function denies(error) {
  return (
    (error instanceof Refused && (error.status === 401 || error.status === 403)) ||
    (error instanceof Closed && error.code === 1008)
  );
}

function why(error) {
  if (error instanceof Refused) return error.message || `the server answered ${error.status}`;
  if (!(error instanceof Closed)) return error.message;
  if (error.code === 1006) return "the server does not answer";
  return error.reason || `the server closed the connection (${error.code})`;
}
