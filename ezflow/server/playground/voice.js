// The microphone: push-to-talk, hands-free, and what to say when there is none.

import { Closed } from "./ezflow.js";
import { Emitter } from "./dom.js";
import { Microphone } from "./sound.js";
import { loudness } from "./speech.js";

const RATE_HZ = Microphone.RATE_HZ;
const FRAME_MS = 32;
// A press shorter than this was a click; a recording longer than the other is sent by itself.
const LEAST_MS = 300;
const MOST_MS = 120_000;
// A live turn that fails sooner than this would fail again at once.
const LASTING_MS = 5000;
// The code with which a server that shuts down closes its sockets.
const SHUTTING_DOWN = 1001;

// Emits "state" (idle; opening, recording: push-to-talk; starting, live: hands-free), "level" (0 to 1), "note" (words,
// or "" for none), "asked" (what was said is about to be sent).
export class Voice extends Emitter {
  state = "idle";

  #connection;
  #turns;
  #sounds;
  #gate;
  #options;
  #microphone = new Microphone({ ended: () => this.#lost() });
  #recorded = [];
  #since = 0;
  #press = 0;
  #flow = null;
  #opening = null;
  #live = 0;

  constructor({ connection, turns, sounds, gate, options }) {
    super();
    this.#connection = connection;
    this.#turns = turns;
    this.#sounds = sounds;
    this.#gate = gate;
    this.#options = options;
  }

  /** The flow that a recording goes to: the chosen one if it takes recordings, else the first that does. */
  get holdFlow() {
    const flows = [this.#connection.flow, ...this.#connection.flows.values()].filter(Boolean);
    return flows.find((flow) => hears(flow) && !flow.live) ?? flows.find(hears) ?? null;
  }

  /** The flow of hands-free: the chosen one if it is live, else the first that is. */
  get liveFlow() {
    const flows = [this.#connection.flow, ...this.#connection.flows.values()].filter(Boolean);
    return flows.find((flow) => hears(flow) && flow.live) ?? null;
  }

  /** Is the push-to-talk button held? */
  get records() {
    return this.state === "opening" || this.state === "recording";
  }

  /** Is hands-free on? */
  get listens() {
    return this.state === "starting" || this.state === "live";
  }

  get #ms() {
    return this.#recorded.length * FRAME_MS;
  }

  /** Push-to-talk is pressed: record. */
  async press() {
    if (this.state !== "idle" || !this.holdFlow) return;
    const press = ++this.#press;
    this.#note("");
    this.#become("opening");
    this.#sounds.unlock();
    this.#recorded = [];
    this.#flow = this.holdFlow;
    this.#opening = this.#connection.choose(this.#flow.name).then(() => this.#connection.check());
    await this.#open((frame) => {
      if (press === this.#press) this.#record(frame);
    });
  }

  /** It is let go of: send what was recorded. */
  async release() {
    if (this.state === "opening")
      return this.abandon("The microphone was not open yet: hold the button, and speak when “Speak now” appears.");
    if (this.state !== "recording") return undefined;
    const spoke = { from: this.#since, to: performance.now() };
    const pcm = joined(this.#recorded);
    const [flow, opening] = [this.#flow, this.#opening];
    if (this.#ms < LEAST_MS) return this.abandon("Hold the button for as long as you speak.");
    this.#close();
    if (!this.#connection.socket) this.#note("What you said is sent as soon as the server is back.");
    await opening;
    const socket = await this.#connection.choose(flow.name); // it may be another than when the button was pressed
    this.#note("");
    this.emit("asked");
    return this.#turns.utter(socket, flow, pcm, RATE_HZ, { options: this.#options(flow), spoke });
  }

  /** Throw the recording away. */
  abandon(words = "The recording was thrown away.") {
    if (!this.records) return;
    this.#close();
    this.#note(words);
  }

  /** Open the microphone for a live turn, and stay in one until `stopListening`. */
  async listen() {
    const flow = this.liveFlow;
    if (this.state !== "idle" || !flow) return;
    const live = ++this.#live;
    this.#note("");
    this.#become("starting");
    this.#sounds.unlock();
    const opening = this.#connection.choose(flow.name).then(() => this.#connection.check());
    if (!(await this.#open((frame) => this.#turns.hear(frame))) || live !== this.#live) return;
    this.#become("live");
    this.emit("asked");
    let socket = await opening;
    while (live === this.#live) {
      const began = performance.now();
      let outcome = await this.#turns.listen(socket, flow, RATE_HZ, { options: this.#options(flow) });
      // A server that shuts down ends the turn first, and then the socket: is it still there?
      if (outcome === "interrupted") await socket.ping().catch((closed) => (outcome = closed));
      if (live !== this.#live) return;
      if (outcome instanceof Closed) {
        const what = outcome.code === SHUTTING_DOWN ? "The server was shut down." : "The connection was lost.";
        this.#note(`${what} Hands-free goes on when it is back.`);
        socket = await this.#connection.opened(socket);
        this.#note("");
      } else if (outcome !== "error" || performance.now() - began < LASTING_MS) {
        this.stopListening(ending(outcome));
      }
    }
  }

  /** Hear no more; what is being answered is answered. */
  stopListening(words = "") {
    this.#live += 1;
    this.#turns.hangUp();
    this.#close();
    this.#note(words);
  }

  async #open(onFrame) {
    try {
      return await this.#microphone.start((frame) => {
        this.#gate.hear(frame);
        this.emit("level", Math.min(1, Math.sqrt(loudness(frame)) * 1.6));
        onFrame(frame);
      });
    } catch (error) {
      this.#close();
      this.#note(trouble(error));
      return false;
    }
  }

  #close() {
    this.#microphone.stop();
    this.#press += 1;
    this.#recorded = [];
    this.#become("idle");
    this.emit("level", 0);
  }

  #lost() {
    const words = "The microphone is gone: it was unplugged, or the browser took it back.";
    if (this.listens) this.stopListening(words);
    else this.abandon(words);
  }

  #record(frame) {
    if (this.state === "opening") {
      this.#since = performance.now() - FRAME_MS;
      this.#become("recording");
    }
    this.#recorded.push(frame);
    if (this.#ms >= MOST_MS) this.release();
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.emit("state", state);
  }

  #note(words) {
    this.emit("note", words);
  }
}

const hears = (flow) => flow.stages[0]?.takes === "audio";

function joined(frames) {
  const all = new Int16Array(frames.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const frame of frames) {
    all.set(frame, at);
    at += frame.length;
  }
  return all;
}

function ending(outcome) {
  if (outcome instanceof Error) return `Hands-free was refused: ${outcome.message}`;
  return (
    {
      error: "Hands-free has ended: its turn failed.",
      timeout: "Hands-free has ended: nothing was said for a long time.",
      interrupted: "Hands-free has ended: a turn was begun elsewhere under the same user name.",
    }[outcome] ?? "Hands-free has ended: the server ended its turn."
  );
}

/** What is wrong with the microphone, and what to do. */
function trouble(error) {
  if (!globalThis.isSecureContext) {
    return "Browsers give the microphone only to pages of this machine (localhost) or over https: open it there, or type.";
  }
  return (
    {
      NotAllowedError:
        "The browser keeps the microphone from this page. Allow it at the icon in the address bar, then try again.",
      SecurityError: "The browser keeps the microphone from this page. Allow it in its settings, then try again.",
      NotFoundError: "There is no microphone. Connect one and try again, or type, or choose a WAV.",
      NotReadableError: "The microphone cannot be opened: another program may be using it. Close that and try again.",
      AbortError: "The microphone cannot be opened: another program may be using it. Close that and try again.",
    }[error.name] ?? `The microphone cannot be opened: ${error.message}`
  );
}
