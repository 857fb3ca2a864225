// The sound of the replies: who is being heard, what of it, and how fast it falls silent.

import { Emitter } from "./dom.js";
import { Player } from "./sound.js";

// The player fades out over so long, that it does not click.
const FADE_MS = 6;

// Emits "heard" (exchange, event, ms), "playing" (exchange, whether).
export class Sounds extends Emitter {
  #player = new Player({ played: (event, ms) => this.#heard(event, ms) });
  #replayer = null;
  #owners = new WeakMap();
  #sounding = new Set();
  #replayed = null;

  /** Is a reply being heard, or about to be? */
  get playing() {
    return this.#player.playing || this.#replayed !== null;
  }

  /** Does the browser hold the sound back until there is a click? */
  get suspended() {
    return this.#player.suspended;
  }

  /** To be called when a button or key is pressed: some browsers let nothing else begin sound. */
  unlock() {
    this.#player.resume().catch(() => {});
  }

  /** Play an audio event after what is being played of the same exchange; another's is cut. */
  play(exchange, event) {
    this.#stopReplay();
    for (const other of [...this.#sounding]) {
      if (other !== exchange) this.stop();
    }
    this.#owners.set(event, exchange);
    this.#player.play(event);
    if (!this.#sounding.has(exchange)) {
      this.#sounding.add(exchange);
      this.emit("playing", exchange, true);
    }
    this.#player.idle.then(() => this.#rest());
  }

  /** Does this exchange have sound that was not heard? */
  sounds(exchange) {
    return this.#sounding.has(exchange);
  }

  /** Silence everything. Returns the exchanges that were cut off; `since`: when that was wished for, null if unknown. */
  stop(since = null) {
    this.#stopReplay();
    const cut = this.#player.playing ? [...this.#sounding] : [];
    this.#player.stop();
    const onItsWay = FADE_MS + 1000 * (this.#player.context?.outputLatency || 0);
    for (const exchange of cut) exchange.silenceMs = since === null ? null : performance.now() - since + onItsWay;
    this.#rest();
    return cut;
  }

  /** Play a finished answer once more; this is not reported as heard. */
  async replay(exchange) {
    this.stop();
    const player = (this.#replayer ??= new Player({ context: this.#player.context }));
    const replayed = (this.#replayed = { exchange });
    this.emit("playing", exchange, true);
    for (const event of exchange.sounds) player.play(event);
    await player.idle;
    if (this.#replayed === replayed) this.#stopReplay(); // else it has been begun anew
  }

  #stopReplay() {
    if (this.#replayed === null) return;
    const { exchange } = this.#replayed;
    this.#replayed = null;
    this.#replayer.stop();
    this.emit("playing", exchange, false);
  }

  #heard(event, ms) {
    const exchange = this.#owners.get(event);
    const now = performance.now();
    exchange.heardAt ??= now - ms;
    exchange.trace.hear(event.seq, exchange.run, now - ms, now);
    this.emit("heard", exchange, event, ms);
  }

  #rest() {
    if (this.#player.playing) return;
    const quiet = [...this.#sounding];
    this.#sounding.clear();
    for (const exchange of quiet) this.emit("playing", exchange, false);
  }
}
