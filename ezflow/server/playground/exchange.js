// One thing asked and what came of it: an article of the conversation.

let count = 0;

export class Exchange {
  /** running, done, interrupted, error or timeout; of an interrupted one, what is missing may be only its sound. */
  state = "running";
  turn = null;
  run = undefined;
  partial = "";
  error = null;
  /** What each stage has said: text by stage, in the order of their first words. */
  answers = new Map();
  /** Events of other types: `{type, stage, data}`. */
  notes = [];
  /** Audio events; those of old exchanges are not kept. */
  sounds = [];
  soundMs = 0;
  /** Is its sound, though it may still come, not wanted any more? */
  muted = false;
  /** Times of the page's clock in ms, null until it came about. */
  askedAt = null;
  firstTextAt = null;
  firstSoundAt = null;
  heardAt = null;
  /** From the wish to interrupt until nothing was played: of this answer, or of the one that was cut off for this. */
  silenceMs = null;
  /** The first and the last time of its events, in its trace's seconds. */
  from = null;
  to = null;

  /**
   * `via` is how it was asked: text, json, wav, hold (push-to-talk) or live (hands-free); `asked` the words, which of
   * speech come with the final transcript; `again` asks the same once more.
   */
  constructor({ via, asked = "", entry = null, file = null, flow, trace, again = null, body = null }) {
    count += 1;
    Object.assign(this, { id: count, via, asked, entry, file, flow, trace, again, body });
    this.createdAt = new Date();
  }

  get isSpoken() {
    return this.via === "hold" || this.via === "live";
  }

  get answer() {
    return [...this.answers.values()].join("\n");
  }

  /** How a list calls it. */
  get title() {
    const run = this.run === undefined ? "" : `, run ${this.run}`;
    const unknown = this.state === "running" ? "beginning" : "not begun";
    const where = this.turn === null ? unknown : `turn ${this.turn}${run}`;
    const words = this.asked || this.partial || this.file || (this.isSpoken ? "speech" : "");
    return { where, words };
  }

  /** What to say of it when the connection is lost. */
  get loss() {
    if (this.turn === null) return { error: "Not answered", message: "The server does not answer.", stage: null };
    return { error: "Connection lost", message: "The connection was lost in the middle of this turn.", stage: null };
  }

  /** What to say of it when the server refuses it by this error. */
  refusal({ error, name, message, status = null, path = null, retryAfter = null }) {
    return { error: error ?? name, message, status, path, retryAfter, stage: this.entry };
  }

  /** The four figures in ms; null for what there is not. */
  get figures() {
    const since = (at) => (at === null || this.askedAt === null ? null : Math.max(0, at - this.askedAt));
    return {
      "first-text": since(this.firstTextAt),
      "first-sound": since(this.firstSoundAt),
      "voice-to-voice": this.isSpoken ? since(this.heardAt) : null,
      "interrupt-to-silence": this.silenceMs,
    };
  }
}
