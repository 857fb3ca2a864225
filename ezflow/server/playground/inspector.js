// The event inspector: the latest events as they came, one of them as JSON. Sound is told by its length.

import { brief, copy, el, throttled } from "./dom.js";
import { Tail } from "./tail.js";

const KEPT = 1000;
const KEPT_HINTS = 300;
const DRAWS_PER_S = 8;
// How near to the end counts as reading along.
const NEAR_PX = 40;

export class Inspector {
  #events = [];
  #types = new Set();
  #drawn = 0;
  #count = 0;
  #chosen = null;
  #paused = false;
  #tail;
  #parts;
  #draw = throttled(() => this.#append(), DRAWS_PER_S);

  /** `parts`: the elements list, type, pause, clear, newest, count, chosen, title, json, copy. */
  constructor(parts) {
    this.#parts = parts;
    // What stages do, the timeline shows; here it would hide the rest.
    parts.type.append(el("option", { value: "!stage", selected: true }, "all but stage"));
    parts.type.addEventListener("change", () => this.#redraw());
    parts.pause.addEventListener("click", () => this.#pause());
    parts.clear.addEventListener("click", () => this.#clear());
    parts.copy.addEventListener("click", () => copy(parts.json.textContent, parts.copy));
    parts.list.addEventListener("click", ({ target }) => this.#choose(target.closest("[role=option]")));
    parts.list.addEventListener("keydown", (event) => this.#key(event));
    this.#tail = new Tail(parts.list, NEAR_PX, (follows) => {
      parts.newest.hidden = follows;
    });
    parts.newest.addEventListener("click", () => this.#tail.follow());
    this.#tell();
  }

  take(event) {
    const { pcm, ...rest } = event;
    const seconds = pcm && event.samples / event.rate_hz;
    const shown = pcm ? { ...rest, pcm: `[${pcm.length} numbers, ${seconds.toFixed(2)} s]` } : rest;
    this.#events.push({ id: this.#count++, shown });
    this.#drop();
    if (!this.#types.has(event.type)) {
      this.#types.add(event.type);
      this.#parts.type.append(el("option", { value: event.type }, event.type));
    }
    this.#draw();
  }

  /** Forget the oldest; hints on what stages do go first, as there are many. */
  #drop() {
    // While it is paused, what the list shows is kept.
    const all = this.#paused ? this.#events.filter(({ id }) => id >= this.#drawn) : this.#events;
    if (all.length <= KEPT) return;
    const hints = all.filter(({ shown }) => shown.type === "stage");
    const oldest = hints.length > KEPT_HINTS ? hints[0] : all[0];
    this.#events.splice(this.#events.indexOf(oldest), 1);
    document.getElementById(`event-${oldest.id}`)?.remove();
  }

  #append() {
    this.#tell();
    if (this.#paused) return;
    const { list } = this.#parts;
    const fresh = this.#events.filter(({ id, shown }) => id >= this.#drawn && this.#passes(shown));
    list.append(...fresh.map((kept) => this.#row(kept)));
    this.#drawn = this.#count;
    this.#tail.keep();
  }

  #row({ id, shown }) {
    const { type, t, stage, turn, run } = shown;
    const number = turn === undefined || turn === null ? "" : `${turn}${run === undefined ? "" : `.${run}`}`;
    return el(
      "div",
      {
        role: "option",
        id: `event-${id}`,
        "data-id": id,
        "data-type": type,
        "aria-selected": String(id === this.#chosen),
      },
      el("span", { class: "event-turn" }, number),
      el("span", { class: "event-t" }, t === undefined ? "" : t.toFixed(3)),
      el("span", { class: "event-type" }, type),
      el("span", { class: "event-what" }, [stage, summary(shown)].filter(Boolean).join("  ")),
    );
  }

  #passes({ type }) {
    const wanted = this.#parts.type.value;
    return wanted === "" || type === wanted || (wanted === "!stage" && type !== "stage");
  }

  #redraw() {
    const drawn = this.#events.filter(({ id, shown }) => id < this.#drawn && this.#passes(shown));
    this.#parts.list.replaceChildren(...drawn.map((kept) => this.#row(kept)));
    this.#tell();
    this.#tail.follow();
  }

  #pause() {
    this.#paused = !this.#paused;
    this.#parts.pause.setAttribute("aria-pressed", String(this.#paused));
    this.#parts.pause.textContent = this.#paused ? "Go on" : "Pause";
    while (this.#events.length > KEPT && !this.#paused) this.#drop();
    this.#append();
  }

  #clear() {
    this.#events = [];
    this.#redraw();
    this.#parts.chosen.hidden = true;
  }

  #choose(row) {
    if (!row) return;
    const { list, chosen, title, json } = this.#parts;
    list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    row.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", row.id);
    row.scrollIntoView({ block: "nearest" });
    this.#chosen = Number(row.dataset.id);
    const { shown } = this.#events.find(({ id }) => id === this.#chosen) ?? {};
    chosen.hidden = !shown;
    if (!shown) return;
    title.textContent = shown.type;
    json.textContent = JSON.stringify(shown, null, 2);
  }

  #key(event) {
    const { list } = this.#parts;
    const rows = list.children;
    const at = [...rows].findIndex((row) => row.getAttribute("aria-selected") === "true");
    const to = { ArrowDown: at + 1, ArrowUp: at < 0 ? rows.length - 1 : at - 1, Home: 0, End: rows.length - 1 }[
      event.key
    ];
    if (to === undefined) return;
    event.preventDefault();
    this.#choose(rows[Math.min(Math.max(to, 0), rows.length - 1)]);
  }

  #tell() {
    const { count } = this.#parts;
    const waits = this.#events.filter(({ id, shown }) => id >= this.#drawn && this.#passes(shown)).length;
    count.textContent = this.#events.length
      ? `${this.#events.length}${this.#paused && waits ? `, ${waits} since Pause` : ""}`
      : "none yet";
  }
}

/** What an event says, on one line. */
function summary(event) {
  if (event.text !== undefined)
    return `${JSON.stringify(brief(event.text, 80))}${event.final === false ? " …" : ""}`;
  if (event.type === "audio") return `${(event.samples / event.rate_hz).toFixed(2)} s at ${event.rate_hz} Hz`;
  if (event.data !== undefined) return brief(JSON.stringify(event.data), 80);
  return event.message ?? event.state ?? event.reason ?? "";
}
