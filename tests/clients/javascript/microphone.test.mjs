// The AudioWorklet processor, loaded with stand-ins for what an audio thread has.
import assert from "node:assert/strict";
import { test } from "node:test";
import { playground } from "./wire.mjs";

const OUT_HZ = 16_000;
const FRAME = 512;

let loaded = 0;

/** A processor of an audio thread at this rate, and the frames that it posts. */
async function processor(rate_hz) {
  const frames = [];
  let Processor;
  globalThis.sampleRate = rate_hz;
  globalThis.AudioWorkletProcessor = class {
    port = { postMessage: (buffer) => frames.push(new Int16Array(buffer)) };
  };
  globalThis.registerProcessor = (name, given) => {
    assert.equal(name, "microphone");
    Processor = given;
  };
  await import(new URL(`microphone.js?${(loaded += 1)}`, playground));
  return { made: new Processor(), frames };
}

/** What is posted for a sound that comes in blocks of 128 samples. */
async function heard(rate_hz, channels, { block = 128 } = {}) {
  const { made, frames } = await processor(rate_hz);
  for (let place = 0; place + block <= channels[0].length; place += block) {
    assert.equal(made.process([channels.map((samples) => samples.subarray(place, place + block))]), true);
  }
  return frames;
}

function tone(hertz, rate_hz, seconds, level = 0.5) {
  return Float32Array.from({ length: rate_hz * seconds }, (_, n) => level * Math.sin((2 * Math.PI * hertz * n) / rate_hz));
}

/** How loud a frequency is in samples whose first 100 ms are left out, where 1 is full scale. */
function loudness(samples, hertz) {
  const steady = samples.slice(OUT_HZ / 10, OUT_HZ / 10 + OUT_HZ / 2);
  let re = 0;
  let im = 0;
  for (const [n, sample] of steady.entries()) {
    const angle = (2 * Math.PI * hertz * n) / OUT_HZ;
    re += sample * Math.cos(angle);
    im += sample * Math.sin(angle);
  }
  return (2 * Math.hypot(re, im)) / steady.length / 32768;
}

function rms(samples) {
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length) / 32768;
}

function joined(frames) {
  const samples = new Int16Array(frames.length * FRAME);
  frames.forEach((frame, n) => samples.set(frame, n * FRAME));
  return samples;
}

const decibels = (ratio) => 20 * Math.log10(ratio);

for (const rate_hz of [8_000, 16_000, 22_050, 44_100, 48_000, 96_000]) {
  test(`at ${rate_hz} Hz a tone of 1 kHz is heard as such, at its own level, and nothing else`, async () => {
    const samples = joined(await heard(rate_hz, [tone(1_000, rate_hz, 1)]));
    assert.ok(Math.abs(loudness(samples, 1_000) - 0.5) < 0.005, `${loudness(samples, 1_000)}`);
    const steady = Array.from(samples.slice(OUT_HZ / 10));
    assert.ok(Math.abs(rms(steady) - 0.5 / Math.SQRT2) < 0.005);
  });

  test(`at ${rate_hz} Hz every frame has 512 samples, and ten seconds are ten seconds`, async () => {
    const frames = await heard(rate_hz, [tone(440, rate_hz, 10)]);
    assert.ok(frames.every((frame) => frame.length === FRAME));
    const lost = 10 * OUT_HZ - frames.length * FRAME;
    // What is not yet a frame, and what the filter still holds.
    assert.ok(lost >= 0 && lost < FRAME + OUT_HZ / 100, `${lost} samples`);
  });

  test(`at ${rate_hz} Hz the tenth second is in phase with the first`, async () => {
    const samples = joined(await heard(rate_hz, [tone(1_000, rate_hz, 10)]));
    const second = (n) => samples.slice(n * OUT_HZ + 1600, n * OUT_HZ + 3200);
    const [early, late] = [second(0), second(9)];
    const apart = Math.max(...early.map((sample, n) => Math.abs(sample - late[n])));
    assert.ok(apart <= 2, `${apart}`);
  });
}

for (const [rate_hz, hertz] of [[48_000, 12_000], [48_000, 9_000], [44_100, 12_000], [96_000, 30_000], [96_000, 15_000]]) {
  test(`a tone of ${hertz} Hz at ${rate_hz} Hz, which 16 kHz cannot hold, is 55 dB down`, async () => {
    const samples = Array.from(joined(await heard(rate_hz, [tone(hertz, rate_hz, 1)]))).slice(1600);
    assert.ok(decibels(rms(samples) / (0.5 / Math.SQRT2)) < -55, `${decibels(rms(samples))} dB`);
  });
}

test("speech is heard up to 6.5 kHz", async () => {
  for (const hertz of [100, 300, 3_400, 6_500]) {
    const level = loudness(joined(await heard(48_000, [tone(hertz, 48_000, 1)])), hertz);
    assert.ok(Math.abs(decibels(level / 0.5)) < 0.5, `${hertz} Hz: ${decibels(level / 0.5)} dB`);
  }
});

test("channels are mixed", async () => {
  const [left, right] = [tone(1_000, 48_000, 1, 0.8), tone(1_000, 48_000, 1, 0.2)];
  assert.ok(Math.abs(loudness(joined(await heard(48_000, [left, right])), 1_000) - 0.5) < 0.005);
});

test("what is too loud is clipped, and does not wrap around", async () => {
  const samples = joined(await heard(16_000, [new Float32Array(1024).fill(1.5)]));
  assert.deepEqual([...new Set(samples)], [32767]);
});

test("a device that is away for a moment gives nothing, and ends nothing", async () => {
  const { made, frames } = await processor(48_000);
  assert.equal(made.process([[]]), true);
  assert.equal(frames.length, 0);
});

test("blocks of another size do as well", async () => {
  const sound = tone(1_000, 48_000, 1);
  const whole = async (block) => joined(await heard(48_000, [sound], { block })).slice(0, 15 * FRAME);
  assert.deepEqual(await whole(128), await whole(1_000));
});
