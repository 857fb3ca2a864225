// The player and the microphone, with stand-ins for what a browser has: their clock stands still until it is told to go on.
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { playground } from "./wire.mjs";

const { Player, Microphone } = await import(new URL("sound.js", playground));
const RATE_HZ = 24_000;
const QUANTUM_S = 128 / RATE_HZ;

class Source {
  buffer = null;
  onended = null;
  begin = null;
  end = Infinity;

  constructor(context) {
    this.context = context;
  }

  connect(node) {
    this.to = node;
    return node;
  }

  start(when) {
    assert.ok(when > this.context.currentTime, "what begins in the past loses its beginning");
    this.begin = when;
    this.end = when + this.buffer.length / this.context.sampleRate;
    this.context.sources.push(this);
  }

  stop(when) {
    this.end = Math.min(this.end, when);
  }
}

class Gain {
  ramps = [];
  connected = true;
  gain = {
    setValueAtTime: (value, when) => this.ramps.push([value, when]),
    linearRampToValueAtTime: (value, when) => this.ramps.push([value, when]),
  };

  connect() {}

  disconnect() {
    this.connected = false;
  }
}

class Context {
  static made = [];
  state = "running";
  currentTime = 0;
  baseLatency = 0.01;
  outputLatency = 0.04;
  destination = {};
  sources = [];
  gains = [];

  sampleRate = RATE_HZ;

  constructor() {
    Context.made.push(this);
  }

  createBuffer(numberOfChannels, length, sampleRate) {
    const channels = Array.from({ length: numberOfChannels }, () => new Float32Array(length));
    assert.equal(sampleRate, this.sampleRate);
    return { length, channels, copyToChannel: (samples, channel) => channels[channel].set(samples) };
  }

  createBufferSource() {
    return new Source(this);
  }

  createGain() {
    this.gains.push(new Gain());
    return this.gains.at(-1);
  }

  resume() {
    return new Promise((resolve) => (this.allow = resolve));
  }

  async close() {
    this.state = "closed";
  }

  /** What is heard of a channel. */
  mix(channel = 0) {
    const heard = new Float32Array(4 * this.sampleRate);
    for (const { begin, buffer } of this.sources) {
      const first = begin * this.sampleRate;
      near(first, Math.round(first), 1e-3);
      buffer.channels[channel].forEach((level, n) => (heard[Math.round(first) + n] += level));
    }
    return heard;
  }

  /** Lets time pass, a quantum after the other. */
  go(seconds) {
    for (let n = 0; n < Math.round(seconds / QUANTUM_S); n++) {
      if (this.state === "running") this.currentTime += QUANTUM_S;
      const ended = this.sources.filter((source) => !source.told && source.end <= this.currentTime);
      for (const source of ended) {
        source.told = true;
        source.onended?.();
      }
      mock.timers.tick(1000 * QUANTUM_S);
    }
  }
}

beforeEach(() => {
  mock.timers.enable({ apis: ["setInterval", "setTimeout"] });
  Context.made = [];
  globalThis.AudioContext = Context;
  const listeners = {};
  globalThis.document = {
    listeners,
    addEventListener: (type, listener) => (listeners[type] = listener),
    removeEventListener: (type) => delete listeners[type],
  };
});

afterEach(() => {
  mock.timers.reset();
  delete globalThis.AudioContext;
  delete globalThis.document;
});

function sound(seq, seconds, { rate_hz = RATE_HZ, channels = 1 } = {}) {
  const pcm = Int16Array.from({ length: Math.round(seconds * rate_hz) * channels }, (_, n) => (n % 100) - 50);
  return { type: "audio", seq, pcm, rate_hz, channels };
}

function listening(options) {
  const told = [];
  const player = new Player({ ...options, played: ({ seq }, ms) => told.push([seq, ms]) });
  return { player, told, of: (seq) => told.filter(([other]) => other === seq).map(([, ms]) => ms) };
}

const near = (one, other, by = 1e-6) => assert.ok(Math.abs(one - other) <= by, `${one} is not ${other}`);

test("sounds follow each other without a gap, from a small lead on", () => {
  const { player } = listening();
  for (const [seq, seconds] of [0.3, 0.013, 0.7, 0.1].entries()) player.play(sound(seq, seconds));
  const { sources } = player.context;
  near(sources[0].begin, 0.03, 1 / RATE_HZ);
  for (const [n, source] of sources.entries()) if (n) near(source.begin, sources[n - 1].end);
});

test("after a silence sound begins anew, and not in the past", () => {
  const { player } = listening();
  player.play(sound(0, 0.1));
  player.context.go(1);
  assert.equal(player.playing, false);
  player.play(sound(1, 0.1));
  near(player.context.sources[1].begin, player.context.currentTime + 0.03, 1 / RATE_HZ);
});

test("what comes when the sound before it is all but over is not cut at its beginning", () => {
  const { player } = listening();
  player.play(sound(0, 0.1));
  player.context.currentTime = 0.125;
  player.play(sound(1, 0.1));
  near(player.context.sources[1].begin, 0.155, 1 / RATE_HZ);
});

test("of a long answer no more than is needed is scheduled, and none of it too late", () => {
  const { player } = listening();
  for (let seq = 0; seq < 100; seq++) player.play(sound(seq, seq % 7 ? 0.2 : 3));
  const { context } = player;
  while (player.playing) {
    context.go(0.05);
    const ahead = context.sources.filter(({ begin }) => begin > context.currentTime);
    assert.ok(ahead.length <= 11);
    for (const [n, source] of context.sources.entries()) if (n) near(source.begin, context.sources[n - 1].end);
  }
  assert.equal(context.sources.length, 100);
});

for (const rate_hz of [4_000, 8_000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000]) {
  test(`pieces of ${rate_hz} Hz are heard as one sound, of the level and the length it has`, () => {
    const { player } = listening();
    const radians = (2 * Math.PI * 300) / rate_hz;
    let samples = 0;
    for (const seconds of [0.1, 0.0411, 0.002, 0.3, 0.0033]) {
      const length = Math.round(seconds * rate_hz);
      const left = Array.from({ length }, () => 16_384 * Math.sin(radians * samples++));
      player.play({ seq: 0, pcm: Int16Array.from(left.flatMap((level) => [level, -level / 2])), rate_hz, channels: 2 });
    }
    const { context } = player;
    const begin = Math.ceil(0.03 * RATE_HZ);
    const length = Math.floor((samples / rate_hz) * RATE_HZ);
    const ring = Math.ceil(24 * Math.max(1, RATE_HZ / rate_hz));
    const [left, right] = [context.mix(0), context.mix(1)];
    for (let n = ring; n < length - ring; n++) {
      const ideal = 0.5 * Math.sin((2 * Math.PI * 300 * n) / RATE_HZ);
      near(left[begin + n], ideal, 0.002);
      near(right[begin + n], -ideal / 2, 0.002);
    }
    assert.ok(left.every((level, n) => level === 0 || (n >= begin - ring && n <= begin + length + ring)));
  });
}

test("sounds of another rate, or with more channels, follow without a gap as well", () => {
  const { player } = listening();
  player.play(sound(0, 0.1));
  player.play(sound(1, 0.1, { channels: 2 }));
  player.play(sound(2, 0.1, { rate_hz: 48_000 }));
  const [first, second, third] = player.context.sources;
  near(second.begin, first.end);
  near(third.begin, second.end, 25 / RATE_HZ); // its filter begins to ring a little earlier
  assert.equal(second.buffer.channels.length, 2);
});

test("what was heard is told some four times a second, when it is heard, and to the end", () => {
  const { player, told, of } = listening();
  player.play(sound(0, 1.1));
  player.play(sound(1, 0.2));
  const { context } = player;
  context.go(0.5);
  // Half a second is played, but what is played is heard 50 ms later.
  const heard = 1000 * (context.currentTime - 0.03 - 0.05);
  assert.ok(of(0).at(-1) <= heard + 1e-6 && of(0).at(-1) > heard - 260, `${of(0)}`);
  context.go(1.5);
  assert.deepEqual([of(0).at(-1), of(1).at(-1)], [1100, 200]);
  assert.ok(of(0).length >= 5 && of(0).length <= 6, `${of(0)}`);
  assert.deepEqual(of(0), [...of(0)].sort((a, b) => a - b));
  assert.deepEqual(told.map(([seq]) => seq), [...told.map(([seq]) => seq)].sort());
});

test("it is idle when the last sound is heard", async () => {
  const { player, told } = listening();
  await player.idle;
  player.play(sound(0, 0.1));
  let idle = false;
  const waiting = player.idle.then(() => (idle = true));
  player.context.go(0.12);
  await Promise.resolve();
  assert.deepEqual([player.playing, idle], [true, false]);
  player.context.go(0.1);
  await waiting;
  assert.deepEqual([player.playing, told.at(-1)], [false, [0, 100]]);
});

test("a stop silences within 6 ms by fading, and tells exactly what was heard", async () => {
  const { player, told, of } = listening();
  for (let seq = 0; seq < 5; seq++) player.play(sound(seq, 0.4));
  const { context } = player;
  context.go(0.6);
  const now = context.currentTime;
  player.stop();
  await player.idle;
  assert.deepEqual(context.gains[0].ramps, [[1, now], [0, now + 0.006]]);
  assert.ok(context.sources.every(({ end }) => end <= now + 0.006));
  assert.deepEqual(of(0).at(-1), 400);
  near(of(1).at(-1), 1000 * (now - 0.43));
  assert.deepEqual(of(2), []);
  assert.equal(player.playing, false);
  told.length = 0;
  context.go(1);
  assert.deepEqual(told, []);
});

test("after a stop the next sound is heard, through a way of its own", () => {
  const { player } = listening();
  player.play(sound(0, 1));
  player.context.go(0.2);
  player.stop();
  player.stop();
  player.play(sound(1, 1));
  const { sources, gains, currentTime } = player.context;
  near(sources[1].begin, currentTime + 0.03);
  assert.equal(sources[1].to, gains[1]);
  assert.deepEqual(gains[1].ramps, []);
});

test("what is told may stop the sound", () => {
  const told = [];
  const player = new Player({ played: ({ seq }) => (told.push(seq), player.stop()) });
  for (let seq = 0; seq < 3; seq++) player.play(sound(seq, 0.1));
  player.context.go(1);
  assert.equal(player.playing, false);
  assert.ok(!told.includes(2));
});

test("sound that the browser holds back is heard after a click, whole", async () => {
  const { player, told } = listening();
  player.play(sound(0, 0.1));
  const { context } = player;
  context.state = "suspended";
  player.play(sound(1, 0.1));
  assert.equal(player.suspended, true);
  context.go(0.5);
  assert.deepEqual([told, player.playing], [[], true]);
  assert.deepEqual(Object.keys(globalThis.document.listeners), ["pointerup", "keydown"]);
  globalThis.document.listeners.pointerup();
  context.state = "running";
  context.allow();
  await Promise.resolve();
  await Promise.resolve();
  assert.deepEqual(Object.keys(globalThis.document.listeners), []);
  context.go(0.5);
  assert.deepEqual(told.at(-1), [1, 100]);
});

test("what is stopped while it is held back is not heard when it goes on", () => {
  const { player, told } = listening();
  player.play(sound(0, 0.1));
  player.context.state = "suspended";
  player.stop();
  assert.equal(player.context.gains[0].connected, false);
  assert.deepEqual(told, []);
});

test("an event without sound is passed over", () => {
  const { player } = listening();
  player.play(sound(0, 0));
  assert.deepEqual([player.playing, player.context], [false, null]);
});

test("one context is made, when it is wanted", () => {
  const { player } = listening();
  assert.deepEqual([player.context, player.suspended], [null, false]);
  player.resume();
  player.play(sound(0, 0.1));
  assert.deepEqual(Context.made, [player.context]);
});

test("closing stops the sound and gives the loudspeaker back", async () => {
  const { player } = listening();
  player.play(sound(0, 1));
  const { context } = player;
  await player.close();
  assert.deepEqual([context.state, player.playing, player.context], ["closed", false, null]);
});

test("without a microphone to be had it is said why", async () => {
  const microphone = new Microphone();
  await assert.rejects(microphone.start(() => {}), { name: "NotSupportedError", message: /https:/ });
  assert.deepEqual([microphone.running, microphone.level], [false, 0]);
});

/** A browser whose microphone is allowed when the test says so. */
function browser() {
  const track = new EventTarget();
  const device = { track, nodes: [], asked: [], contexts: [], stopped: 0 };
  track.stop = () => (device.stopped += 1);
  device.allowed = new Promise((resolve, reject) => Object.assign(device, { allow: resolve, forbid: reject }));
  const stream = { getTracks: () => [track], getAudioTracks: () => [track] };
  const getUserMedia = async (wanted) => {
    device.asked.push(wanted);
    await device.allowed;
    return stream;
  };
  Object.defineProperty(globalThis, "navigator", { value: { mediaDevices: { getUserMedia } }, configurable: true });
  globalThis.AudioWorkletNode = class {
    port = {};

    constructor(context, name) {
      assert.equal(name, "microphone");
      device.nodes.push(this);
    }

    connect() {}
  };
  globalThis.AudioContext = class extends Context {
    audioWorklet = { addModule: async (url) => assert.equal(url.href, new URL("microphone.js", playground).href) };

    constructor(options) {
      super(options);
      device.contexts.push(this);
    }

    createMediaStreamSource(given) {
      assert.equal(given, stream);
      return { connect: (node) => node };
    }

    async resume() {}
  };
  return device;
}

test("the microphone gives its frames, and how loud they are, until it is stopped", async () => {
  const device = browser();
  const frames = [];
  const microphone = new Microphone({ constraints: { deviceId: "x", autoGainControl: false } });
  device.allow();
  assert.equal(await microphone.start((frame) => frames.push(frame)), true);
  assert.deepEqual(device.asked, [
    { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: false, channelCount: 1, deviceId: "x" } },
  ]);
  const tone = Int16Array.from({ length: 512 }, (_, n) => 16_384 * Math.sin((2 * Math.PI * n) / 16));
  device.nodes[0].port.onmessage({ data: tone.buffer });
  assert.deepEqual(frames, [tone]);
  near(microphone.level, 0.5, 0.001);
  microphone.stop();
  device.nodes[0].port.onmessage({ data: tone.buffer });
  assert.equal(frames.length, 1);
  assert.deepEqual([microphone.running, microphone.level, device.stopped], [false, 0, 1]);
  assert.equal(device.contexts[0].state, "closed");
});

test("a microphone that is stopped before it is allowed is given back when it is", async () => {
  const device = browser();
  const microphone = new Microphone();
  const starting = microphone.start(() => assert.fail("nothing should be heard"));
  assert.equal(microphone.running, true);
  microphone.stop();
  device.allow();
  assert.equal(await starting, false);
  assert.deepEqual([microphone.running, device.stopped, device.nodes.length], [false, 1, 0]);
});

test("a microphone that is not allowed raises what the browser says", async () => {
  const device = browser();
  const microphone = new Microphone();
  device.forbid(new DOMException("no", "NotAllowedError"));
  await assert.rejects(microphone.start(() => {}), { name: "NotAllowedError" });
  assert.deepEqual([microphone.running, device.contexts[0].state], [false, "closed"]);
});

test("a device that goes away ends the microphone, and says so", async () => {
  const device = browser();
  let ended = 0;
  const microphone = new Microphone({ ended: () => (ended += 1) });
  device.allow();
  await microphone.start(() => {});
  device.track.dispatchEvent(new Event("ended"));
  device.track.dispatchEvent(new Event("ended"));
  assert.deepEqual([ended, microphone.running], [1, false]);
});
