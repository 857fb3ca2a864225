// What was seen of a turn: what each stage did and when, what was spoken, sent and heard.
//
// Times within a trace are seconds since the turn began, on the server's clock. What happens in the page has a time of
// `performance.now()`, and `at` converts it: an event's own `t` says when it came about, so the least delay between
// that and its arrival tells when the turn began on the page's clock.

const DOING = new Set(["waiting", "working", "blocked"]);
// What one lane keeps: a live turn may last for hours.
const KEPT_SPANS = 400;
const KEPT_MARKS = 2000;

export class Trace {
  /** The server's number of the turn, once it is known. */
  turn = null;
  /** When the last event came about, and when the turn ended (null while it runs). */
  last = 0;
  ended = null;
  interrupts = [];
  heard = [];

  #origin;
  #settled = false;
  #lanes = new Map();

  constructor(flow, startedAt = performance.now()) {
    this.flow = flow;
    this.#origin = startedAt;
    for (const stage of flow.stages) this.#lanes.set(stage.name, { name: stage.name, spans: [], marks: [] });
  }

  get lanes() {
    return [...this.#lanes.values()];
  }

  /** A time of the page's clock in seconds since the turn began. */
  at(now = performance.now()) {
    return (now - this.#origin) / 1000;
  }

  /** Take an event that arrives now. */
  take(event, now = performance.now()) {
    const t = event.t ?? this.last;
    if (event.t !== undefined) {
      const origin = now - event.t * 1000;
      // The turn did not begin when it was asked for: the first event corrects that, later ones only by being quicker.
      this.#origin = this.#settled ? Math.min(this.#origin, origin) : origin;
      this.#settled = true;
    }
    this.last = Math.max(this.last, t);
    if (event.type === "stage") this.#doing(event, t);
    else if (event.type === "interrupted") this.#interrupted(event.run, t);
    else if (event.type === "turn.ended") this.#end(event.reason, t);
    else if (event.stage) this.#mark(event.stage, event.type === "error" ? "failed" : "sent", event.run, t);
  }

  /** The turn is over, or lost: nothing goes on. */
  close() {
    this.ended ??= this.last;
    for (const lane of this.lanes) this.#stop(lane, undefined, this.ended);
  }

  /** The sound of event `seq` is heard from `from` to `to` (page's clock); more of the same makes it longer. */
  hear(seq, run, from, to) {
    const span = this.heard.find((other) => other.seq === seq);
    if (span) {
      span.to = Math.max(span.to, this.at(to));
    } else {
      this.heard.push({ seq, run, from: this.at(from), to: this.at(to) });
      if (this.heard.length > KEPT_SPANS) this.heard.shift();
    }
  }

  /** What was being heard was cut off now, after its turn had ended. */
  cut(run) {
    this.interrupts.push({ run, t: this.at() });
  }

  #end(reason, t) {
    if (reason === "interrupted") this.interrupts.push({ run: undefined, t });
    this.close();
  }

  #lane(name) {
    if (!this.#lanes.has(name)) this.#lanes.set(name, { name, spans: [], marks: [] });
    return this.#lanes.get(name);
  }

  #doing(event, t) {
    const lane = this.#lane(event.stage);
    if (event.state === "first" || event.state === "failed") this.#mark(event.stage, event.state, event.run, t);
    if (event.state === "first") return;
    this.#stop(lane, event.run, t);
    if (DOING.has(event.state)) {
      lane.spans.push({ state: event.state, run: event.run, from: t, to: null });
      if (lane.spans.length > KEPT_SPANS) lane.spans.shift();
    }
  }

  #mark(stage, kind, run, t) {
    const { marks } = this.#lane(stage);
    marks.push({ kind, run, t });
    if (marks.length > KEPT_MARKS) marks.shift();
  }

  #interrupted(run, t) {
    this.interrupts.push({ run, t });
    for (const lane of this.lanes) {
      if (run !== undefined) this.#stop(lane, run, t);
    }
  }

  /** End what goes on in a lane: that of one run, or all if the turn is over. */
  #stop(lane, run, t) {
    for (const span of lane.spans) {
      if (span.to === null && (span.run === run || this.ended !== null)) span.to = Math.max(t, span.from);
    }
  }
}
