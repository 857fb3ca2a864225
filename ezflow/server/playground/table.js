// The timeline as a table: the same facts for those who cannot see the drawing, or want the numbers.

import { el } from "./dom.js";
import { HEAR, SPEAK } from "./view.js";

const HEADS = ["Stage", "Began", "First output", "Working", "Blocked", "Sent", "Last sign"];

/** The table of a View. */
export function tableOf(view) {
  if (!view) return el("p", { class: "meta" }, "No turn yet.");
  const rows = view.lanes.map((lane) => rowOf(lane, view));
  const interrupts = view.interrupts.map(({ t, run }) => `${run === undefined ? "" : `run ${run} `}at ${at(t)}`);
  const table = el(
    "table",
    {},
    el(
      "caption",
      {},
      `Seconds since the turn began${interrupts.length ? `; interrupted: ${interrupts.join(", ")}` : ""}.`,
    ),
    el("thead", {}, el("tr", {}, ...HEADS.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows),
  );
  return table;
}

function rowOf({ name, spans, marks }, view) {
  const ofRun = ({ run }) => view.exchange?.run === undefined || run === undefined || run === view.exchange.run;
  const [own, signs] = [spans.filter(ofRun), marks.filter(ofRun)];
  const took = (state) => own.filter((span) => span.state === state).reduce((sum, { from, to }) => sum + to - from, 0);
  const isPerson = name === SPEAK || name === HEAR;
  const began = own.find(({ state }) => state !== "waiting") ?? own[0];
  const first = signs.find(({ kind }) => kind === "first") ?? signs[0];
  const last = Math.max(...own.map(({ to }) => to), ...signs.map(({ t }) => t));
  const sent = signs.filter(({ kind }) => kind === "sent").length;
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, name),
    ...[
      began ? at(began.from) : "–",
      first && !isPerson ? at(first.t) : "–",
      took(name === SPEAK ? "speak" : name === HEAR ? "hear" : "working").toFixed(2),
      isPerson ? "–" : took("blocked").toFixed(2),
      isPerson ? "–" : String(sent),
      Number.isFinite(last) ? at(last) : "–",
    ].map((text) => el("td", {}, text)),
  );
}

const at = (t) => t.toFixed(2);
