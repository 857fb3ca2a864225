/**
 * The AudioWorklet processor of `Microphone` (sound.js): what the device hears, at 16 kHz, mono.
 *
 * It posts frames of 32 ms: an ArrayBuffer of 512 samples of PCM16 each. Runs in the audio thread, in blocks of 128 samples.
 */

import { Stream } from "./resampler.js";

const OUT_HZ = 16_000;
const FRAME = 512;

class MicrophoneProcessor extends AudioWorkletProcessor {
  #stream = sampleRate === OUT_HZ ? null : new Stream(Math.round(sampleRate), OUT_HZ);
  #frame = new Int16Array(FRAME);
  #filled = 0;

  process([input]) {
    if (input.length === 0) return true; // the device is being changed
    const mono = input.length === 1 ? input[0] : mixed(input);
    if (this.#stream) this.#stream.push(mono, (sample) => this.#take(sample));
    else for (const sample of mono) this.#take(sample);
    return true;
  }

  #take(sample) {
    this.#frame[this.#filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
    if (this.#filled < FRAME) return;
    this.port.postMessage(this.#frame.buffer, [this.#frame.buffer]);
    this.#frame = new Int16Array(FRAME);
    this.#filled = 0;
  }
}

function mixed(channels) {
  return channels[0].map((_, place) => channels.reduce((sum, channel) => sum + channel[place], 0) / channels.length);
}

registerProcessor("microphone", MicrophoneProcessor);
