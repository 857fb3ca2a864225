// The latency figures that people quote, of the exchange that the timeline shows.

import { el, inSeconds } from "./dom.js";

const FIGURES = {
  "first-text": [
    "First text",
    "From Send, from letting go of the button, or (hands-free) from the end of speech, to the first piece of text.",
  ],
  "first-sound": ["First sound", "From the same moment to the arrival of the first piece of sound."],
  "voice-to-voice": [
    "Voice to voice",
    "From the end of speech to the moment the reply is heard. The end is letting go of the button; hands-free, " +
      "the last loud moment the microphone heard before the final transcript.",
  ],
  "interrupt-to-silence": [
    "Interrupt to silence",
    "From Stop, or from the onset of the speech that interrupts, to the moment nothing is played: of this reply, " +
      "or of the one before it that was interrupted for this.",
  ],
};

export class Figures {
  #values = new Map();

  constructor(list) {
    for (const [name, [words, meaning]] of Object.entries(FIGURES)) {
      const value = el("dd", { "data-figure": name }, "–");
      this.#values.set(name, value);
      list.append(el("div", { title: meaning }, el("dt", {}, words), value));
    }
  }

  /** The figures of an exchange. */
  show(exchange) {
    const figures = exchange?.figures ?? {};
    for (const [name, value] of this.#values) {
      const ms = figures[name] ?? null;
      const words = ms === null ? "–" : inSeconds(ms);
      if (value.textContent !== words) value.textContent = words;
    }
  }
}
