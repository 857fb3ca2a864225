// Which part of a trace the timeline shows, and what stands in its lanes: what drawing and table have in common.

export const SPEAK = "you speak";
export const HEAR = "you hear";
// A live turn that runs is shown as it rolls by: so many seconds of it.
const ROLLING_S = 12;
// Speech that began up to this long before a run's first event is what the run is about.
const BEFORE_S = 5;
const LEAST_S = 0.5;

/** What there is of a trace: `exchange` picks one answer of it, without one the end of the trace is shown. */
export class View {
  constructor(trace, exchange, runs) {
    this.trace = trace;
    this.exchange = exchange;
    /** Does it grow? */
    this.runs = runs;
    const now = trace.at();
    [this.from, this.to] = exchange ? this.#around(now) : [Math.max(0, now - ROLLING_S), Math.max(now, ROLLING_S)];
    this.now = now;
  }

  /** The lanes from the top: `{name, spans: [{state, from, to}], marks: [{kind, t}]}`. */
  get lanes() {
    const { trace, now } = this;
    const within = (items) => items.filter(({ from, to }) => (to ?? now) >= this.from && from <= this.to);
    const stages = trace.lanes.map(({ name, spans, marks }) => ({
      name,
      spans: within(spans).map((span) => ({ ...span, to: span.to ?? Math.max(now, span.from) })),
      marks: marks.filter(({ t }) => t >= this.from && t <= this.to),
    }));
    const spoken = within(this.#spoken()).map((span) => ({ ...span, state: "speak" }));
    const heard = within(trace.heard).map((span) => ({ ...span, state: "hear" }));
    return [
      ...(trace.spoken ? [{ name: SPEAK, spans: spoken, marks: [] }] : []),
      ...stages,
      ...(heard.length || trace.flow.stages.some(({ out }) => /\bAudio\b/.test(out))
        ? [{ name: HEAR, spans: heard, marks: [] }]
        : []),
    ];
  }

  get interrupts() {
    return this.trace.interrupts.filter(({ t }) => t >= this.from && t <= this.to);
  }

  #spoken() {
    const { trace } = this;
    return (trace.spoken ?? []).map(({ from, to }) => ({ from: trace.at(from), to: trace.at(to) }));
  }

  #around(now) {
    const { trace, exchange } = this;
    const ofRun = ({ run }) => run === exchange.run;
    let from = exchange.from ?? 0;
    let to = Math.max(exchange.to ?? from, exchange.run === undefined ? (trace.ended ?? from) : from);
    const speech = this.#spoken()
      .filter((span) => span.from < from + 1 && span.to > from - BEFORE_S)
      .at(-1);
    if (speech && exchange.isSpoken) from = Math.min(from, speech.from);
    for (const span of [...trace.heard.filter(ofRun), ...trace.interrupts.filter(ofRun)]) {
      to = Math.max(to, span.to ?? span.t);
    }
    if (exchange.state === "running" || this.runs) to = Math.max(to, now);
    return [from, Math.max(to, from + LEAST_S)];
  }
}
