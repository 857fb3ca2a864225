// When does the microphone hear speech? A gate on its level, for the drawing and the figures alone: what counts as an
// utterance, the server's voice detector decides.

const FRAME_MS = 32;
// A frame is loud that is this far above the noise, and above the hiss of any microphone.
const ABOVE_NOISE = 3.5;
const HISS = 0.006;
// The noise is taken to be the quietest lately: it may rise by this factor from frame to frame.
const RISE = 1.01;
const LOUD_FRAMES = 3;
const QUIET_MS = 300;
const KEPT = 500;

export class SpeechGate {
  /** `{from, to}` of each time there was speech, oldest first; `to` is its last loud moment so far. */
  spans = [];

  #noise = 0.01;
  #loud = 0;
  #onset = 0;
  #span = null;

  /** Take a frame of samples that has just been heard. All times are those of `performance.now()`. */
  hear(frame, now = performance.now()) {
    const level = loudness(frame);
    this.#noise = Math.min(Math.max(level, 1e-4), this.#noise * RISE);
    if (level < Math.max(HISS, this.#noise * ABOVE_NOISE)) {
      this.#loud = 0;
      if (this.#span && now - this.#span.to > QUIET_MS) this.#span = null;
      return;
    }
    if (this.#loud === 0) this.#onset = now - FRAME_MS;
    this.#loud += 1;
    if (this.#span) {
      this.#span.to = now;
    } else if (this.#loud >= LOUD_FRAMES) {
      this.#span = { from: this.#onset, to: now };
      this.spans.push(this.#span);
      if (this.spans.length > KEPT) this.spans.shift();
    }
  }

  /** When speech began that goes on now, or has ended a moment ago; null if there is none. */
  onset(now = performance.now()) {
    const last = this.spans.at(-1);
    return last && now - last.to < 1500 ? last.from : null;
  }

  /** The last moment of speech up to now; null if there was none for a while. */
  end(now = performance.now()) {
    const last = this.spans.at(-1);
    return last && now - last.to < 10_000 ? last.to : null;
  }
}

/** The root mean square of 16-bit samples, 0 to 1. */
export function loudness(frame) {
  let sum = 0;
  for (const sample of frame) sum += sample * sample;
  return Math.sqrt(sum / Math.max(frame.length, 1)) / 32768;
}
