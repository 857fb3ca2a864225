// The flow as it is drawn: a button for each stage, in columns by how far it is from the front, joined by lines.

import { el } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WORDS = { waiting: "waiting", working: "working", blocked: "blocked", failed: "failed" };

export class Drawing {
  #stages = new Map();
  #flow = null;
  #place;
  #lines;
  #choose;

  /** Draws into `place`; `choose(stage)` is called when a stage's button is pressed. */
  constructor(place, choose) {
    this.#place = place;
    this.#choose = choose;
    new ResizeObserver(() => this.#join()).observe(place);
  }

  show(flow, entry) {
    this.#flow = flow;
    this.#stages.clear();
    this.#lines = document.createElementNS(SVG, "svg");
    this.#lines.setAttribute("class", "flow-lines");
    this.#lines.setAttribute("aria-hidden", "true");
    const columns = columnsOf(flow).map((stages) =>
      el("div", { class: "flow-column" }, ...stages.map((s) => this.#draw(s))),
    );
    this.#place.replaceChildren(this.#lines, ...columns);
    this.enter(entry);
    this.#join();
  }

  /** Mark the stage that takes what is typed. */
  enter(entry) {
    for (const [name, { button }] of this.#stages) button.setAttribute("aria-pressed", String(name === entry));
  }

  /** What a stage is doing now; "sent" when it has given something, "over" when its turn is, null before a turn. */
  tell(name, state) {
    const stage = this.#stages.get(name);
    if (!stage || state === "first") return;
    if (state === "sent") {
      for (const animation of stage.spark.getAnimations()) {
        animation.cancel();
        animation.play();
      }
      stage.button.dataset.sent = "";
      return;
    }
    if (state === "over" && stage.button.dataset.state === "failed") return;
    const words = WORDS[state] ?? "";
    stage.button.dataset.state = words;
    stage.doing.textContent = words;
    if (state === null) delete stage.button.dataset.sent;
  }

  #draw(stage) {
    const doing = el("span", { class: "stage-doing", "aria-hidden": "true" });
    const spark = el("span", { class: "stage-spark", "aria-hidden": "true" });
    const types = el(
      "span",
      { class: "stage-types" },
      el("span", { class: "type" }, stage.in),
      el("span", { class: "arrow" }, "→"),
      el("span", { class: "type" }, stage.out),
    );
    const button = el(
      "button",
      {
        type: "button",
        class: "stage",
        "data-stage": stage.name,
        "aria-pressed": "false",
        title: stage.doc || null,
        click: () => this.#choose(stage),
      },
      spark,
      el("span", { class: "stage-name" }, stage.name),
      " ",
      types,
      doing,
    );
    if (stage.shown) button.dataset.shown = "";
    this.#stages.set(stage.name, { button, doing, spark });
    return button;
  }

  #join() {
    if (!this.#flow) return;
    const origin = this.#place.getBoundingClientRect();
    this.#lines.setAttribute("width", this.#place.scrollWidth);
    this.#lines.setAttribute("height", this.#place.scrollHeight);
    this.#lines.replaceChildren(
      ...this.#flow.edges.map(({ from, to }) => {
        const [giver, taker] = [from, to].map((name) => this.#stages.get(name)?.button.getBoundingClientRect());
        const path = document.createElementNS(SVG, "path");
        if (!giver || !taker) return path;
        const [x1, y1] = [giver.right - origin.left, giver.top + giver.height / 2 - origin.top];
        const [x2, y2] = [taker.left - origin.left, taker.top + taker.height / 2 - origin.top];
        const bend = (x2 - x1) / 2;
        path.setAttribute("d", `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2 - 2} ${y2}`);
        path.setAttribute("class", "flow-line");
        return path;
      }),
    );
  }
}

/** The stages in columns: each stands one further than the furthest that gives to it. */
export function columnsOf({ stages, edges }) {
  const column = new Map(stages.map(({ name }) => [name, 0]));
  // A flow has no cycle: after as many rounds as stages, nothing moves any more.
  for (let round = 0, moved = true; moved && round < stages.length; round += 1) {
    moved = false;
    for (const { from, to } of edges) {
      if (column.get(to) <= column.get(from)) {
        column.set(to, column.get(from) + 1);
        moved = true;
      }
    }
  }
  const columns = [];
  for (const stage of stages) (columns[column.get(stage.name)] ??= []).push(stage);
  return columns.filter(Boolean);
}
