/**
 * A browser's loudspeaker and microphone for ezflow.js: `Player` plays audio events, `Microphone` gives frames to send.
 *
 *     const player = new Player({ played: (event, ms) => live.played(event, ms) });
 *     const microphone = new Microphone();
 *     await microphone.start((frame) => live.send(frame));
 *     for await (const event of live) {
 *       if (event.type === "audio") player.play(event);
 *       if (event.type === "interrupted") player.stop();
 *     }
 */

import { convertPiece, Filter } from "./resampler.js";

// Sound after a silence begins so much later, that what follows it can still join it without a gap.
const BEGIN_S = 0.03;
// What ends sooner than this cannot be joined any more: the audio thread may be past it.
const JOIN_S = 0.01;
// So much stands ready behind the sound that plays: a page in the background is woken once a second.
const AHEAD_S = 2;
// Sound that stops at once clicks; over this time it does not.
const FADE_S = 0.006;
const REPORT_MS = 250;
const GESTURES = ["pointerup", "keydown"];

/** Plays audio events one after the other without gaps, each at its own rate. */
export class Player {
  #context;
  #waiting = [];
  #scheduled = [];
  #strand = null;
  #out = null;
  #timer = null;
  #idle = deferred();
  #onGesture = () => this.resume().catch(() => {});

  constructor({ played = () => {}, context = null } = {}) {
    this.played = played;
    this.#context = context;
    this.#idle.resolve();
  }

  /** The AudioContext; null until there is one. */
  get context() {
    return this.#context;
  }

  /** Is there sound that is not yet heard? */
  get playing() {
    return this.#scheduled.length > 0;
  }

  /** Resolves when all is heard, or stopped. */
  get idle() {
    return this.#idle.promise;
  }

  /** Does the browser hold the sound back until there is a click or a key? It then goes on by itself. */
  get suspended() {
    return this.#context !== null && this.#context.state !== "running";
  }

  /** Lets sound be heard; call it in the handler of a click or a key. Resolves when the browser allows it. */
  async resume() {
    const context = (this.#context ??= new AudioContext());
    if (context.state === "running") return;
    for (const gesture of GESTURES) globalThis.document?.addEventListener(gesture, this.#onGesture);
    await context.resume();
    for (const gesture of GESTURES) globalThis.document?.removeEventListener(gesture, this.#onGesture);
  }

  /** Plays an audio event after those before it. */
  play(event) {
    if (event.pcm.length === 0) return;
    this.#context ??= new AudioContext();
    if (!this.playing) this.#idle = deferred();
    this.#waiting.push(event);
    this.#schedule();
    this.#timer ??= setInterval(() => this.#check(), REPORT_MS);
    if (this.suspended) this.#onGesture();
  }

  /** Silences what is heard within some milliseconds, and forgets the rest. */
  stop() {
    if (!this.playing) return;
    const now = this.#context.currentTime;
    const cut = this.#scheduled;
    this.#scheduled = [];
    this.#waiting = [];
    this.#strand = null;
    this.#out.gain.setValueAtTime(1, now);
    this.#out.gain.linearRampToValueAtTime(0, now + FADE_S);
    if (this.suspended) this.#out.disconnect(); // or the fade would be heard when it goes on
    this.#out = null;
    for (const { source } of cut) {
      source.onended = null;
      source.stop(now + FADE_S);
    }
    this.#rest();
    // What has left the context is on its way to the ear and cannot be called back: it counts as heard.
    for (const sound of cut) this.#report(sound, now);
  }

  /** Stops, and gives the loudspeaker back. */
  async close() {
    this.stop();
    const context = this.#context;
    this.#context = null;
    for (const gesture of GESTURES) globalThis.document?.removeEventListener(gesture, this.#onGesture);
    await context?.close();
  }

  #schedule() {
    while (this.#waiting.length && this.#ahead() < AHEAD_S) {
      const event = this.#waiting.shift();
      if (!this.#strand?.fits(event)) this.#strand = new Strand(this.#context, event, this.#strand?.end);
      const { source, begin, end } = this.#strand.append(event);
      source.connect((this.#out ??= outOf(this.#context)));
      source.onended = () => this.#ended();
      this.#scheduled.push({ event, source, begin, end, told: 0 });
    }
  }

  /** Seconds of sound that stand ready behind the one that plays. */
  #ahead() {
    const next = this.#scheduled.find(({ begin }) => begin > this.#context.currentTime);
    return next ? this.#strand.end - next.begin : 0;
  }

  #ended() {
    this.#schedule();
    setTimeout(() => this.#check(), 1000 * latencyOf(this.#context) + 1); // it is heard so much later
  }

  #check() {
    if (!this.playing) return;
    const heard = this.#context.currentTime - latencyOf(this.#context);
    const begun = this.#scheduled.filter(({ begin }) => begin < heard);
    this.#scheduled = this.#scheduled.filter(({ end }) => heard < end);
    this.#schedule();
    if (!this.playing) this.#rest();
    for (const sound of begun) this.#report(sound, heard);
  }

  #report(sound, heard) {
    const ms = heard < sound.end ? 1000 * (heard - sound.begin) : lengthOf(sound.event);
    if (ms <= sound.told) return;
    sound.told = ms;
    this.played(sound.event, ms);
  }

  #rest() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#idle.resolve();
  }
}

/** Gives what the microphone hears as frames of 32 ms, 16 kHz mono PCM16, whatever the device's own rate is. */
export class Microphone {
  static RATE_HZ = 16_000;

  #constraints;
  #worklet;
  #session = null;
  #level = 0;

  constructor({ constraints = {}, worklet = new URL("./microphone.js", import.meta.url), ended = () => {} } = {}) {
    this.#constraints = constraints;
    this.#worklet = worklet;
    this.ended = ended;
  }

  /** Is it heard, or being asked for? */
  get running() {
    return this.#session !== null;
  }

  /** How loud the last frame was: 0 is silence, 1 a tone as loud as can be. */
  get level() {
    return this.#level;
  }

  /**
   * Asks for the microphone, if need be, and calls `onFrame(Int16Array)` for each frame until `stop`. True when it is
   * heard; false if it was stopped before that. Raises: DOMException: NotAllowedError, NotFoundError …
   */
  async start(onFrame) {
    this.stop();
    const session = (this.#session = { stream: null, context: null });
    try {
      await this.#begin(session, onFrame);
    } catch (error) {
      if (this.#session !== session) return false;
      this.stop();
      throw error;
    }
    return this.#session === session;
  }

  /** Gives the microphone back. */
  stop() {
    const session = this.#session;
    this.#session = null;
    this.#level = 0;
    if (session !== null) release(session);
  }

  async #begin(session, onFrame) {
    if (!globalThis.navigator?.mediaDevices || !globalThis.AudioWorkletNode) {
      throw new DOMException(
        "a browser gives the microphone only to a page that comes over https:, or from this machine (127.0.0.1)",
        "NotSupportedError",
      );
    }
    // Made before the browser asks: it is in the handler of a click that a context may begin to run.
    const context = (session.context = new AudioContext());
    const clean = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
    session.stream = await navigator.mediaDevices.getUserMedia({ audio: { ...clean, ...this.#constraints } });
    if (this.#session !== session) return release(session);
    await context.audioWorklet.addModule(this.#worklet);
    if (this.#session !== session) return;
    const node = new AudioWorkletNode(context, "microphone", { outputChannelCount: [1] });
    node.port.onmessage = ({ data }) => {
      if (this.#session !== session) return;
      const frame = new Int16Array(data);
      this.#level = loudness(frame);
      onFrame(frame);
    };
    const source = context.createMediaStreamSource(session.stream);
    // It gives silence; but what leads nowhere need not be computed.
    source.connect(node).connect(context.destination);
    session.source = source; // else it may be collected as garbage, and fall silent
    const [track] = session.stream.getAudioTracks();
    track.addEventListener("ended", () => {
      if (this.#session !== session) return;
      this.stop();
      this.ended();
    });
    await context.resume();
  }
}

function release({ stream, context }) {
  for (const track of stream?.getTracks() ?? []) track.stop();
  if (context && context.state !== "closed") context.close().catch(() => {});
}

/** The root mean square, where a tone of full scale is 1. */
function loudness(frame) {
  let sum = 0;
  for (const sample of frame) sum += sample * sample;
  return Math.min(1, Math.sqrt((2 * sum) / frame.length) / 32768);
}

/** Sounds of one rate that follow each other without a gap. */
class Strand {
  #context;
  #filter;
  #frame;
  #taken = 0;

  constructor(context, { rate_hz, channels }, begin = 0) {
    this.#context = context;
    this.rate_hz = rate_hz;
    this.channels = channels;
    this.#filter = rate_hz === context.sampleRate ? null : new Filter(rate_hz, context.sampleRate);
    this.#frame = Math.ceil(begin * context.sampleRate);
  }

  /** When all of it has been played, in seconds of the context. */
  get end() {
    return this.#frame / this.#context.sampleRate + this.#taken / this.rate_hz;
  }

  fits({ rate_hz, channels }) {
    return rate_hz === this.rate_hz && channels === this.channels;
  }

  /** Makes a source that begins where the sound before it ends; or soon, if that is over. */
  append({ pcm }) {
    const context = this.#context;
    // A browser would convert each sound by itself, which is heard where they meet.
    const parts = Array.from({ length: this.channels }, (_, channel) => this.#convert(pcm, channel));
    const buffer = context.createBuffer(this.channels, parts[0].part.length, context.sampleRate);
    for (const [channel, { part }] of parts.entries()) buffer.copyToChannel(part, channel);
    const now = context.currentTime; // that took its time
    if (this.end <= now + JOIN_S) {
      this.#frame = Math.ceil((now + BEGIN_S - this.#taken / this.rate_hz) * context.sampleRate);
    }
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.start((this.#frame + parts[0].first) / context.sampleRate);
    const begin = this.end;
    this.#taken += Math.floor(pcm.length / this.channels);
    return { source, begin, end: this.end };
  }

  #convert(pcm, channel) {
    const samples = channelOf(pcm, channel, this.channels);
    return this.#filter ? convertPiece(this.#filter, samples, this.#taken) : { first: this.#taken, part: samples };
  }
}

function channelOf(pcm, channel, channels) {
  const length = Math.floor(pcm.length / channels);
  return Float32Array.from({ length }, (_, n) => pcm[n * channels + channel] / 32768);
}

/** Milliseconds. */
function lengthOf({ pcm, channels, rate_hz }) {
  return 1000 * (Math.floor(pcm.length / channels) / rate_hz);
}

function outOf(context) {
  const out = context.createGain();
  out.connect(context.destination);
  return out;
}

/** Seconds from the context to the ear. */
function latencyOf(context) {
  return (context.baseLatency || 0) + (context.outputLatency || 0);
}

function deferred() {
  const parts = {};
  parts.promise = new Promise((resolve) => (parts.resolve = resolve));
  return parts;
}
