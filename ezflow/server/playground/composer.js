// The form under the conversation: what is typed, chosen or held goes from here to the stage that is the entry.

import { byId } from "./dom.js";

const STATES = { opening: "Opening …", recording: "Speak now", starting: "Opening …", live: "Listening", idle: "" };

export class Composer {
  #voice;
  #ask;
  #stage = null;
  #flow = null;
  #holding = false;

  /** `ask(stage, via, input, words)` sends what was typed or chosen, and tells if it did; `stop()` interrupts. */
  constructor({ voice, ask, stop }) {
    this.#voice = voice;
    this.#ask = ask;
    this.#text(ask);
    this.#hold();
    this.#file();
    byId("stop").addEventListener("click", stop);
    byId("hands-free").addEventListener("click", () => {
      if (voice.listens) voice.stopListening();
      else voice.listen();
    });
    voice.on("state", (state) => this.#voiceIs(state));
    voice.on("note", (words) => this.note(words));
    voice.on("level", (level) => {
      byId("level-bar").style.transform = `scaleX(${level})`;
    });
  }

  /** What is typed goes to this stage. */
  enter(flow, stage) {
    this.#flow = flow;
    this.#stage = stage;
    const message = byId("message");
    const { name, takes, doc } = stage;
    const isAudio = takes === "audio";
    message.placeholder = isAudio ? `${name} takes sound` : takes === "json" ? `JSON for ${name}` : `Text for ${name}`;
    message.disabled = byId("send").disabled = isAudio;
    message.classList.toggle("code", takes === "json");
    byId("wav").hidden = !isAudio;
    const how = isAudio
      ? "hold to talk, choose a WAV, or click another stage to type"
      : takes === "json"
        ? `takes ${stage.in} as JSON`
        : "takes what you type";
    byId("entry-hint").textContent = `Entry ${name}: ${how}.${doc ? ` ${doc}` : ""}`;
    this.#explain();
  }

  /** Words about the page's own doings; "" for none. */
  note(words) {
    const note = byId("note");
    note.textContent = words;
    note.hidden = !words;
  }

  /** Is there something that Stop would end? */
  running(is) {
    byId("stop").disabled = !is;
  }

  #text() {
    const message = byId("message");
    const fit = () => {
      message.style.height = "auto";
      message.style.height = `${Math.min(message.scrollHeight + 2, innerHeight / 3)}px`;
    };
    message.addEventListener("input", fit);
    message.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      byId("ask").requestSubmit();
    });
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#send(message.value)) {
        message.value = "";
        fit();
      }
    });
  }

  #send(words) {
    if (!this.#stage || this.#stage.takes === "audio" || !words.trim()) return false;
    this.note("");
    if (this.#stage.takes === "text") {
      return this.#ask(this.#stage, "text", words, words);
    }
    let input;
    try {
      input = JSON.parse(words);
    } catch (error) {
      this.note(`${this.#stage.name} takes ${this.#stage.in}, so this must be JSON: ${error.message}.`);
      return false;
    }
    return this.#ask(this.#stage, "json", input, words);
  }

  #hold() {
    const hold = byId("hold");
    const press = () => {
      this.#holding = true;
      this.#voice.press();
    };
    const release = () => {
      if (!this.#holding) return;
      this.#holding = false;
      this.#voice.release();
    };
    hold.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      hold.setPointerCapture(event.pointerId);
      press();
    });
    for (const what of ["pointerup", "pointercancel", "lostpointercapture"]) hold.addEventListener(what, release);
    hold.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch is what it is for
    const isPress = ({ key }) => key === " " || key === "Enter";
    hold.addEventListener("keydown", (event) => {
      if (!isPress(event)) return;
      event.preventDefault();
      if (!event.repeat && !this.#holding) press();
    });
    hold.addEventListener("keyup", (event) => {
      if (isPress(event)) release();
    });
    hold.addEventListener("blur", () => {
      this.#holding = false;
      this.#voice.abandon("The recording was thrown away: the button has lost the focus.");
    });
  }

  #file() {
    const [button, file] = [byId("wav"), byId("wav-file")];
    button.addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      if (file.files[0]) this.#give(file.files[0], this.#stage);
      file.value = "";
    });
    const talk = document.querySelector(".talk");
    talk.addEventListener("dragover", (event) => {
      event.preventDefault();
      talk.dataset.drop = "";
    });
    talk.addEventListener("dragleave", () => delete talk.dataset.drop);
    talk.addEventListener("drop", (event) => {
      event.preventDefault();
      delete talk.dataset.drop;
      const [dropped] = event.dataTransfer.files;
      if (dropped) this.#give(dropped, this.#stage);
    });
  }

  async #give(file, chosen) {
    if (!chosen) return this.note("The server has not answered yet: try again once it is connected.");
    const stage = chosen.takes === "audio" ? chosen : this.#flow.stages.find(({ takes }) => takes === "audio");
    if (!stage) return this.note("No stage of this flow takes sound.");
    const sound = await file.arrayBuffer();
    const head = String.fromCharCode(...new Uint8Array(sound, 0, Math.min(12, sound.byteLength)));
    if (!/^RIFF.{4}WAVE/s.test(head)) return this.note(`${file.name} is not a WAV.`);
    this.note("");
    return this.#ask(stage, "wav", sound, file.name);
  }

  #voiceIs(state) {
    const [hold, handsFree] = [byId("hold"), byId("hands-free")];
    hold.toggleAttribute("data-recording", state === "recording");
    handsFree.setAttribute("aria-checked", String(this.#voice.listens));
    byId("level").hidden = state === "idle";
    byId("voice-state").textContent = STATES[state];
    this.#explain();
  }

  /** Say why what cannot be used cannot. */
  #explain() {
    const { records, listens, holdFlow, liveFlow } = this.#voice;
    const whys = {
      hold: holdFlow ? "" : "Hold to talk: no flow of this server takes sound at its front.",
      "hands-free": liveFlow
        ? ""
        : "Hands-free needs a live flow, which may be spoken over: one with a Latest, as SileroVAD() >> Latest(flow).",
    };
    for (const [id, why] of Object.entries(whys)) {
      byId(`${id}-why`).textContent = why;
      byId(`${id}-why`).hidden = !why;
      byId(id).disabled = why !== "";
    }
    if (listens) byId("hold").disabled = true;
    if (records) byId("hands-free").disabled = true;
    byId("welcome-hold").hidden = !holdFlow;
    byId("welcome-live").hidden = !liveFlow;
  }
}
