/** Converts the rate of samples by a windowed sinc: for the microphone (in the audio thread) and for the player. */

// Zero crossings of the sinc on each side, and the shape of its Kaiser window: what is above half of the lower rate is
// 60 dB down (but for the last tenth before it), what is below 0.42 of it passes.
const CROSSINGS = 24;
const BETA = 5.65;
const CUTOFF = 0.46;

/**
 * The filter from one rate to another. An output sample is `step / phases` input samples after the one before it:
 * counted in whole fractions of a sample, nothing drifts, however long it runs.
 */
export class Filter {
  #kernels = [];
  #bandwidth;

  constructor(in_hz, out_hz) {
    const divisor = gcd(in_hz, out_hz);
    this.step = in_hz / divisor;
    this.phases = out_hz / divisor;
    const lower = Math.min(in_hz, out_hz) / in_hz;
    this.#bandwidth = 2 * CUTOFF * lower;
    /** How many samples before and after a place have a part in it. */
    this.half = Math.ceil(CROSSINGS / lower);
  }

  /** The value `phase / phases` of a sample after `samples[first + half - 1]`. */
  at(samples, first, phase) {
    const weights = (this.#kernels[phase] ??= kernel(this.half, phase / this.phases, this.#bandwidth));
    let sum = 0;
    for (let tap = 0; tap < weights.length; tap++) sum += weights[tap] * samples[first + tap];
    return sum;
  }
}

/** Converts samples as they come. */
export class Stream {
  #filter;
  #held;
  #next = 0;
  #phase = 0;

  constructor(in_hz, out_hz) {
    this.#filter = new Filter(in_hz, out_hz);
    this.#held = new Float32Array(2 * this.#filter.half); // before the first sample there is silence
  }

  /** Calls `give` with each sample that can be computed now. */
  push(samples, give) {
    const { step, phases, half } = this.#filter;
    const sound = new Float32Array(this.#held.length + samples.length);
    sound.set(this.#held);
    sound.set(samples, this.#held.length);
    while (this.#next + 2 * half <= sound.length) {
      give(this.#filter.at(sound, this.#next, this.#phase));
      this.#phase += step;
      this.#next += Math.floor(this.#phase / phases);
      this.#phase %= phases;
    }
    const done = Math.min(this.#next, sound.length);
    this.#held = sound.slice(done);
    this.#next -= done;
  }
}

/**
 * Converts a piece of a sound, of which `before` samples came before it: its part in the output, and where that begins
 * (in output samples from the sound's beginning). The parts of neighbours overlap; their sum is the sound, unbroken.
 */
export function convertPiece(filter, samples, before) {
  const { step, phases, half } = filter;
  const padded = new Float32Array(samples.length + 4 * half);
  padded.set(samples, 2 * half);
  const first = Math.ceil(((before - half) * phases) / step);
  const last = Math.floor(((before + samples.length + half - 1) * phases) / step);
  const part = new Float32Array(last - first + 1);
  for (let n = 0; n < part.length; n++) {
    const place = (first + n) * step - before * phases;
    const whole = Math.floor(place / phases);
    part[n] = filter.at(padded, whole + half + 1, place - whole * phases);
  }
  return { first, part };
}

/** Weights of the 2 * half samples around a place that is `fraction` of a sample behind the middle. */
function kernel(half, fraction, bandwidth) {
  const weights = new Float32Array(2 * half);
  let sum = 0;
  for (let tap = 0; tap < weights.length; tap++) {
    const x = tap - (half - 1) - fraction;
    const angle = Math.PI * bandwidth * x;
    const edge = x / half;
    const window = Math.abs(edge) < 1 ? bessel(BETA * Math.sqrt(1 - edge * edge)) : 0;
    weights[tap] = (angle === 0 ? 1 : Math.sin(angle) / angle) * window;
    sum += weights[tap];
  }
  return weights.map((weight) => weight / sum);
}

/** The modified Bessel function of the first kind, of order 0. */
function bessel(x) {
  let term = 1;
  let sum = 1;
  for (let n = 1; term > 1e-9 * sum; n++) {
    term *= (x / 2 / n) ** 2;
    sum += term;
  }
  return sum;
}

function gcd(a, b) {
  return b === 0 ? a : gcd(b, a % b);
}
