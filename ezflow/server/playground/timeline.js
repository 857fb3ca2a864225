// The timeline as a drawing: a lane for each stage, time from left to right. It draws while something goes on, and once
// more when that is over; an idle page draws nothing.

import { brief, el } from "./dom.js";
import { HEAR, SPEAK } from "./view.js";

const LANE = 26;
const AXIS = 22;
const FRAME_MS = 1000 / 30;
const STEPS_S = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300];
const TICK_PX = 56;
const KINDS = {
  waiting: "waiting for input",
  working: "working",
  blocked: "blocked: waits for room behind it",
  first: "first output",
  sent: "sent",
  speak: SPEAK,
  hear: HEAR,
  interrupt: "interrupted",
  failed: "failed",
};

export class Timeline {
  #canvas;
  #tip;
  #legend;
  #view;
  #colours = {};
  #hits = [];
  #frame = 0;
  #drawnAt = 0;

  /** `view()` gives what is to be shown now, a View; null before there is a flow. */
  constructor(canvas, tip, legend, view) {
    this.#canvas = canvas;
    this.#tip = tip;
    this.#legend = legend;
    this.#view = view;
    for (const [kind, words] of Object.entries(KINDS)) {
      legend.append(el("li", { class: `key key-${kind}`, "data-kind": kind }, el("i"), words.split(":")[0]));
    }
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    canvas.addEventListener("pointermove", (event) => this.#point(event));
    canvas.addEventListener("pointerleave", () => {
      tip.textContent = "";
    });
    this.recolour();
  }

  /** Take the colours of the theme, from the legend, which has them from the style sheet. */
  recolour() {
    for (const { dataset, firstChild } of this.#legend.children) {
      this.#colours[dataset.kind] = getComputedStyle(firstChild).color;
    }
    const style = getComputedStyle(this.#canvas);
    Object.assign(this.#colours, { text: style.color, faint: style.outlineColor, line: style.borderTopColor });
    this.draw();
  }

  /** Something has changed: draw, and go on for as long as something runs. */
  draw() {
    if (!this.#frame) this.#frame = requestAnimationFrame((now) => this.#turn(now));
  }

  #turn(now) {
    this.#frame = 0;
    if (now - this.#drawnAt < FRAME_MS - 2) return this.draw();
    this.#drawnAt = now;
    const view = this.#view();
    if (view) this.#paint(view);
    return view?.runs ? this.draw() : undefined;
  }

  #paint(view) {
    const canvas = this.#canvas;
    const { lanes } = view;
    const width = canvas.clientWidth;
    const height = lanes.length * LANE + AXIS;
    const scale = devicePixelRatio || 1;
    if (!width) return; // folded away
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      canvas.style.height = `${height}px`;
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = `12px ${getComputedStyle(canvas).fontFamily}`;
    pen.textBaseline = "middle";
    this.#hits = [];
    const widest = Math.max(...lanes.map(({ name }) => pen.measureText(name).width));
    const left = Math.min(widest + 12, width * 0.3);
    const perSecond = (width - left - 8) / (view.to - view.from);
    const place = {
      left,
      right: width - 8,
      x: (t) => left + (Math.min(Math.max(t, view.from), view.to) - view.from) * perSecond,
    };
    this.#axis(pen, view, place, perSecond, height);
    lanes.forEach((lane, index) => this.#lane(pen, lane, place, index * LANE));
    this.#interrupts(pen, view, place, height - AXIS);
  }

  #axis(pen, view, place, perSecond, height) {
    const step = STEPS_S.find((s) => s * perSecond >= TICK_PX) ?? STEPS_S.at(-1);
    const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    pen.strokeStyle = this.#colours.line;
    pen.lineWidth = 1;
    pen.fillStyle = this.#colours.faint;
    pen.textAlign = "center";
    for (let n = Math.ceil(view.from / step); n * step <= view.to; n += 1) {
      const x = Math.round(place.x(n * step)) + 0.5;
      pen.beginPath();
      pen.moveTo(x, 0);
      pen.lineTo(x, height - AXIS + 3);
      pen.stroke();
      const words = `${(n * step).toFixed(digits)} s`;
      if (x + pen.measureText(words).width / 2 < place.right + 8) pen.fillText(words, x, height - AXIS / 2 + 2);
    }
    pen.textAlign = "left";
  }

  #lane(pen, lane, { left, right, x }, top) {
    const middle = top + LANE / 2;
    pen.fillStyle = this.#colours.text;
    let name = lane.name;
    while (name.length > 2 && pen.measureText(name).width > left - 8) name = `${name.slice(0, -2)}…`;
    pen.fillText(name, 0, middle + 0.5);
    pen.strokeStyle = this.#colours.line;
    pen.beginPath();
    pen.moveTo(left, top + LANE - 0.5);
    pen.lineTo(right + 8, top + LANE - 0.5);
    pen.stroke();
    for (const span of lane.spans) this.#span(pen, lane.name, span, x, middle);
    for (const mark of lane.marks) this.#mark(pen, lane.name, mark, x(mark.t), middle);
  }

  #span(pen, name, { state, from, to }, x, middle) {
    const [start, wide] = [x(from), Math.max(x(to) - x(from), 1.5)];
    const half = state === "waiting" ? 1.5 : 7;
    pen.fillStyle = this.#colours[state];
    pen.beginPath();
    pen.roundRect(start, middle - half, wide, 2 * half, Math.min(3, wide / 2));
    pen.fill();
    if (state === "blocked") {
      // not by its colour alone
      pen.save();
      pen.clip();
      pen.strokeStyle = this.#colours.line;
      pen.lineWidth = 2;
      for (let at = start - 14; at < start + wide; at += 7) {
        pen.beginPath();
        pen.moveTo(at, middle + 8);
        pen.lineTo(at + 16, middle - 8);
        pen.stroke();
      }
      pen.restore();
    }
    const times = `${from.toFixed(2)} to ${to.toFixed(2)} s (${(to - from).toFixed(2)} s)`;
    const words = `${name}: ${KINDS[state].split(":")[0]}, ${times}`;
    this.#hits.push({ x1: start, x2: start + wide, y: middle, words });
  }

  #mark(pen, name, { kind, t }, x, middle) {
    pen.fillStyle = pen.strokeStyle = this.#colours[kind];
    pen.lineWidth = 1.5;
    pen.beginPath();
    if (kind === "sent") {
      pen.moveTo(x, middle - 10);
      pen.lineTo(x, middle + 10);
      pen.stroke();
    } else if (kind === "first") {
      pen.moveTo(x, middle - 6);
      pen.lineTo(x + 6, middle);
      pen.lineTo(x, middle + 6);
      pen.lineTo(x - 6, middle);
      pen.fill();
    } else {
      pen.moveTo(x - 5, middle - 5);
      pen.lineTo(x + 5, middle + 5);
      pen.moveTo(x + 5, middle - 5);
      pen.lineTo(x - 5, middle + 5);
      pen.lineWidth = 2.5;
      pen.stroke();
    }
    this.#hits.push({ x1: x - 3, x2: x + 3, y: middle, words: `${name}: ${KINDS[kind]} at ${t.toFixed(2)} s` });
  }

  #interrupts(pen, view, { x }, bottom) {
    pen.strokeStyle = pen.fillStyle = this.#colours.interrupt;
    pen.lineWidth = 1.5;
    for (const { t, run } of view.interrupts) {
      const at = Math.round(x(t)) + 0.5;
      pen.setLineDash([4, 3]);
      pen.beginPath();
      pen.moveTo(at, 0);
      pen.lineTo(at, bottom);
      pen.stroke();
      pen.setLineDash([]);
      pen.fillRect(at - 3.5, 0, 7, 7);
      const words = `interrupted${run === undefined ? "" : ` run ${run}`} at ${t.toFixed(2)} s`;
      this.#hits.push({ x1: at - 4, x2: at + 4, y: 4, words });
    }
  }

  #point({ offsetX, offsetY }) {
    const near = (hit) => offsetX >= hit.x1 - 2 && offsetX <= hit.x2 + 2 && Math.abs(offsetY - hit.y) <= LANE / 2;
    this.#tip.textContent = this.#hits.findLast(near)?.words ?? "";
  }

  /** Say in words what is drawn. */
  describe(view) {
    const { turn = null, run } = view?.exchange ?? view?.trace ?? {};
    const words = view?.exchange?.title.words;
    const which = `turn ${turn}${run === undefined ? "" : `, run ${run}`}${words ? `: ${brief(words)}` : ""}`;
    const label = turn === null ? "No turn yet" : `Timeline of ${which}. The table says the same in words.`;
    this.#canvas.setAttribute("aria-label", label);
  }
}
