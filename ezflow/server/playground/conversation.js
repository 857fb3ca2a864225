// The conversation: an article for each exchange, its text as it streams in, and what can be done with it.

import { announce, copy, el, inSeconds } from "./dom.js";
import { Tail } from "./tail.js";

const STATES = {
  running: "",
  done: "",
  interrupted: "Interrupted",
  error: "Failed",
  timeout: "Took too long: ended by the server",
};
const VIAS = { text: "typed", json: "JSON", wav: "WAV", hold: "spoken", live: "spoken" };
// How near to the end counts as reading along.
const NEAR_PX = 80;

export class Conversation {
  #articles = new Map();
  #log;
  #welcome;
  #can;
  #tail;
  #changed = new Set();
  #frame = 0;

  /** `can`: what can be done with an exchange: replay, again, timeline, curl (null where it has none). */
  constructor(log, welcome, can) {
    this.#log = log;
    this.#welcome = welcome;
    this.#can = can;
    this.#tail = new Tail(log, NEAR_PX);
  }

  add(exchange) {
    this.#welcome.hidden = true;
    const article = new Article(exchange, this.#can);
    this.#articles.set(exchange, article);
    this.#log.append(article.element);
    this.#tail.follow();
  }

  drop(exchange) {
    this.#articles.get(exchange)?.element.remove();
    this.#articles.delete(exchange);
  }

  change(exchange, what, event) {
    const article = this.#articles.get(exchange);
    if (!article) return;
    if (what !== "answer") article.change(what, event);
    this.#changed.add(article);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** A line between two exchanges: who is asking now. */
  say(words) {
    this.#log.append(el("p", { class: "log-line" }, words));
    this.#tail.keep();
  }

  /** Is the sound of this exchange being played? */
  playing(exchange, plays) {
    this.#articles.get(exchange)?.playing(plays);
  }

  /** Words may come by the thousand a second: they are laid out once for each frame of the screen. */
  #draw() {
    this.#frame = 0;
    for (const article of this.#changed) article.change("answer");
    this.#changed.clear();
    this.#tail.keep();
  }
}

class Article {
  #exchange;
  #can;
  #parts = {};
  #texts = new Map();

  constructor(exchange, can) {
    this.#exchange = exchange;
    this.#can = can;
    this.element = el("article", { "data-state": exchange.state, "data-turn": "" });
    const p = this.#parts;
    p.meta = el("span", { class: "meta" });
    p.asked = el("p", { class: "asked", "data-part": "asked", dir: "auto" });
    p.partial = el("p", { class: "partial", "data-part": "partial", dir: "auto" });
    p.answer = el("div", { class: "answer", "data-part": "answer" });
    p.notes = el("ul", { class: "notes" });
    p.state = el("p", { class: "state" });
    p.thinking = el("p", { class: "thinking" }, el("span", {}), el("span", {}), el("span", {}));
    p.replay = el("button", { type: "button", class: "small", click: () => can.replay(exchange) }, "Play again");
    p.curl = el(
      "button",
      { type: "button", class: "small", click: () => copy(can.curl(exchange), p.curl) },
      "Copy as curl",
    );
    p.again = el("button", { type: "button", class: "small", click: () => can.again(exchange) }, "Ask again");
    p.timeline = el("button", { type: "button", class: "small", click: () => can.timeline(exchange) }, "Timeline");
    p.sound = el("span", { class: "meta" });
    p.tools = el("div", { class: "article-tools" }, p.replay, p.timeline, p.curl, p.again, p.sound);
    p.question = el("div", { class: "question" }, p.meta, p.asked, p.partial);
    p.reply = el("div", { class: "reply" }, p.notes, p.answer, p.thinking, p.state, p.tools);
    this.element.append(p.question, p.reply);
    for (const what of ["turn", "asked", "sound", "state"]) this.change(what);
  }

  change(what, event) {
    const { turn, run, state } = this.#exchange;
    if (what === "turn") {
      this.element.dataset.turn = turn ?? "";
      if (run !== undefined) this.element.dataset.run = run;
      this.#label();
    } else if (what === "asked") {
      this.#asked();
    } else if (what === "answer") {
      this.#answered();
    } else if (what === "note") {
      this.#note(event);
    } else if (what === "sound" || what === "figures") {
      this.#tools();
    } else if (what === "error") {
      this.#failed();
    }
    if (what === "state") this.#ended(state);
    this.#parts.thinking.hidden = state !== "running" || this.#exchange.answers.size > 0 || this.#exchange.soundMs > 0;
  }

  playing(plays) {
    this.element.toggleAttribute("data-playing", plays);
  }

  #label() {
    const { via, entry, file, turn, run, createdAt } = this.#exchange;
    const numbers = turn === null ? [] : [`turn ${turn}${run === undefined ? "" : `.${run}`}`];
    const words = [`${VIAS[via]}${entry ? ` → ${entry}` : ""}`, file, ...numbers, createdAt.toLocaleTimeString()];
    this.#parts.meta.textContent = words.filter(Boolean).join(" · ");
    this.element.setAttribute("aria-label", ["Exchange", ...numbers].join(", "));
  }

  #asked() {
    const { asked, partial, isSpoken, via, state } = this.#exchange;
    const { asked: words, partial: heard } = this.#parts;
    words.textContent = asked;
    words.hidden = asked === "";
    const without = { running: "…", done: "(no words were heard)" }[state] ?? "(speech)";
    heard.textContent = partial || (isSpoken || via === "wav" ? without : "");
    heard.hidden = heard.textContent === "" || asked !== "";
  }

  #answered() {
    for (const [stage, words] of this.#exchange.answers) {
      let text = this.#texts.get(stage);
      if (!text) {
        text = document.createTextNode("");
        this.#texts.set(stage, text);
        this.#parts.answer.append(el("p", { "data-stage": stage, dir: "auto" }, text));
        this.#parts.answer.classList.toggle("several", this.#texts.size > 1);
      }
      if (words.length > text.length) text.appendData(words.slice(text.length));
    }
  }

  #note({ type, stage, data }) {
    const said = data && typeof data === "object" && Object.keys(data).join() === "message" ? data.message : data;
    const text = typeof said === "string" ? said : JSON.stringify(said, null, 1);
    const value = text.length > 200 || text.includes("\n") ? el("pre", { tabindex: "0" }, text) : el("span", {}, text);
    this.#parts.notes.append(el("li", {}, el("b", {}, `${stage}${type === "json" ? "" : ` · ${type}`}`), " ", value));
  }

  #failed() {
    const { error } = this.#exchange;
    const where = error.stage ? `${error.stage}: ` : "";
    const lines = [el("p", {}, el("b", {}, `${where}${error.error}`), error.status ? ` (${error.status})` : "")];
    lines.push(el("p", {}, error.message));
    if (error.path) lines.push(el("p", { class: "meta" }, "at ", el("code", {}, error.path)));
    if (error.retryAfter) lines.push(el("p", { class: "meta" }, `Wait ${error.retryAfter} s before you ask again.`));
    this.#parts.error?.remove();
    this.#parts.error = el("div", { class: "error", "data-part": "error", role: "alert" }, ...lines);
    this.#parts.state.before(this.#parts.error);
    this.#tools();
  }

  #ended(state) {
    const { answer, soundMs, error } = this.#exchange;
    this.#answered();
    this.element.dataset.state = state;
    this.#parts.state.textContent = STATES[state];
    this.#parts.state.hidden = !STATES[state] || state === "error";
    this.#asked();
    if (state === "done" && answer) announce(answer);
    else if (state === "interrupted") announce("Interrupted");
    else if (state === "done" && !soundMs && !error && this.#parts.notes.childElementCount === 0) {
      this.#parts.state.textContent = "Nothing came of it.";
      this.#parts.state.hidden = false;
    }
    this.#tools();
  }

  #tools() {
    const { sounds, soundMs, state, again, body, figures } = this.#exchange;
    const p = this.#parts;
    p.replay.hidden = sounds.length === 0 || state === "running";
    p.curl.hidden = !body;
    p.again.hidden = !again || !["error", "timeout"].includes(state);
    const facts = [
      soundMs ? `${inSeconds(soundMs)} of sound${sounds.length ? "" : " (no longer kept)"}` : "",
      figures["first-text"] !== null ? `text after ${inSeconds(figures["first-text"])}` : "",
      figures["first-sound"] !== null ? `sound after ${inSeconds(figures["first-sound"])}` : "",
    ];
    p.sound.textContent = facts.filter(Boolean).join(" · ");
  }
}
