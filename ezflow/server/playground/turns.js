// Turns: how one begins, and where each of its events goes. An event is for the exchange whose question it answers, for
// the trace of its turn, and for the inspector.

import { Closed } from "./ezflow.js";
import { Emitter } from "./dom.js";
import { Exchange } from "./exchange.js";
import { Trace } from "./trace.js";

// What the page keeps: so many exchanges, and the sound of so many answers for playing it again.
const KEPT = 200;
const KEPT_SOUNDS = 30;
// Of a live turn, so many runs may still get events.
const KEPT_RUNS = 4;
// A server that has not ended a turn so long after Stop is not waited for.
const STOP_MS = 2000;

// Emits "exchange" (a new one), "dropped" (an old one), "change" (exchange, what), "event" (event), "stage" (name,
// state, flow), "sound" (exchange, audio event), "cut" (exchange), "refused" (error, exchange), "over" (when a turn is).
export class Turns extends Emitter {
  exchanges = [];
  /** The live turn of hands-free, or null. */
  live = null;

  #running = new Set();
  #gate;

  /** `gate`: the SpeechGate that hears the microphone. */
  constructor(gate) {
    super();
    this.#gate = gate;
  }

  /** Is something under way that Stop would end? A live turn that only listens is not. */
  get answers() {
    return [...this.#running].some((turn) => !turn.live || turn.exchanges().some(({ state }) => state === "running"));
  }

  /** One item through the flow over HTTP; resolves when the turn has ended, however. */
  async ask(client, flow, input, { options, ...question }) {
    const turn = this.#begin(flow, { ...question, askedAt: performance.now() });
    const leaving = new AbortController();
    const asked = { entry: question.entry ?? undefined, options, timeline: true, signal: leaving.signal };
    turn.interrupt = async () => {
      turn.stopped = true;
      const ended = await client.interrupt({ signal: AbortSignal.timeout(STOP_MS) }).catch(() => null);
      if (ended === null || ended !== turn.trace.turn) leaving.abort(); // the server has not ended it, but will now
    };
    await this.#follow(turn, () => client.turn(input, asked));
  }

  /** One recording through the flow over the socket. `spoke`: when it was spoken, on the page's clock. */
  async utter(socket, flow, pcm, rate_hz, { options, spoke }) {
    const turn = this.#begin(flow, { via: "hold", askedAt: spoke.to });
    turn.trace.spoken = [spoke];
    await this.#follow(turn, () => {
      const stream = socket.start({ options, timeline: true, format: { rate_hz, channels: 1 } });
      turn.interrupt = () => stream.interrupt();
      turn.stream = stream;
      stream.send(pcm); // as one frame: to a stage that takes utterances each frame is one
      stream.end();
      return stream;
    });
  }

  /** A live turn. Resolves when it has ended, with the reason or with the error that ended it. */
  async listen(socket, flow, rate_hz, { options }) {
    const turn = this.#open(flow, true);
    turn.trace.spoken = this.#gate.spans;
    this.live = turn;
    try {
      return await this.#follow(turn, () => {
        const stream = socket.start({ options, timeline: true, format: { rate_hz, channels: 1 } });
        turn.interrupt = () => stream.interrupt();
        turn.stream = stream;
        return stream;
      });
    } finally {
      if (this.live === turn) this.live = null;
    }
  }

  /** Sound for the live turn, if there is one. */
  hear(frame) {
    this.live?.stream?.send(frame);
  }

  /** Feed the live turn at one of its stages. False if there is none that takes it. */
  feed(input, { entry, ...question }) {
    const turn = this.live;
    if (!turn?.stream?.send(input, { entry })) return false;
    turn.pending.push(this.#add(turn, { ...question, entry, askedAt: performance.now() }));
    return true;
  }

  /** The live turn takes no more; what is being answered is answered. */
  hangUp() {
    this.live?.stream?.end();
    this.live = null;
  }

  /** End what is being answered, on the server; its sound is for others to stop. */
  async interrupt() {
    const turns = [...this.#running];
    for (const exchange of turns.flatMap((turn) => turn.exchanges())) this.#finish(exchange, "interrupted");
    await Promise.allSettled(turns.map((turn) => turn.interrupt?.()));
  }

  /** The turn whose exchange this is, if it still runs. */
  turnOf(exchange) {
    return [...this.#running].find(({ trace }) => trace === exchange.trace);
  }

  #open(flow, live) {
    // `pending` are asked, but no event has come yet that tells which run answers them.
    const turn = { flow, live, trace: new Trace(flow), pending: [], byRun: new Map(), lanes: new Map() };
    turn.exchanges = () => [...new Set([...turn.byRun.values(), ...turn.pending])];
    this.#running.add(turn);
    this.#light(turn, null);
    return turn;
  }

  #begin(flow, question) {
    const turn = this.#open(flow, false);
    turn.pending.push(this.#add(turn, question));
    return turn;
  }

  #add(turn, { askedAt = null, ...question }) {
    const exchange = new Exchange({ ...question, flow: turn.flow, trace: turn.trace });
    exchange.askedAt = askedAt;
    exchange.turn = turn.trace.turn;
    exchange.from = turn.live ? turn.trace.at() : 0;
    this.exchanges.push(exchange);
    if (this.exchanges.length > KEPT) this.emit("dropped", this.exchanges.shift());
    const sounding = this.exchanges.filter(({ sounds }) => sounds.length > 0);
    for (const old of sounding.slice(0, -KEPT_SOUNDS)) this.#change(old, { sounds: [] }, "sound");
    this.emit("exchange", exchange);
    return exchange;
  }

  async #follow(turn, begin) {
    let outcome;
    try {
      for await (const event of begin()) {
        const now = performance.now();
        this.emit("event", event);
        this.#take(turn, event, now);
        if (event.type === "turn.ended") outcome = event.reason;
      }
    } catch (error) {
      outcome = error;
      if (!turn.stopped) this.#fail(turn, error);
    }
    this.#running.delete(turn);
    turn.trace.close();
    for (const exchange of turn.exchanges()) this.#finish(exchange, "interrupted");
    this.#light(turn, "over");
    this.emit("over", turn);
    return outcome;
  }

  #take(turn, event, now) {
    const { trace } = turn;
    if (event.turn === undefined) return this.#complain(turn, event);
    trace.take(event, now);
    if (event.type === "turn.started") {
      trace.turn = event.turn;
      for (const exchange of turn.pending) this.#change(exchange, { turn: event.turn }, "turn");
    } else if (event.type === "stage") {
      this.#doing(turn, event);
    } else if (event.type === "interrupted") {
      this.#interrupted(turn, event);
    } else if (event.type === "turn.ended") {
      for (const exchange of turn.exchanges()) this.#finish(exchange, event.reason);
    } else {
      this.#tell(turn, this.#exchangeOf(turn, event), event, now);
    }
    const exchange = turn.byRun.get(event.run);
    if (exchange) exchange.to = Math.max(exchange.to ?? 0, event.t ?? 0);
  }

  #tell(turn, exchange, event, now) {
    if (event.type === "text") {
      if (exchange.firstTextAt === null) this.#change(exchange, { firstTextAt: now }, "figures");
      exchange.answers.set(event.stage, (exchange.answers.get(event.stage) ?? "") + event.text);
      this.emit("change", exchange, "answer", event);
    } else if (event.type === "transcript") {
      this.#transcribed(exchange, event, now);
    } else if (event.type === "audio") {
      if (exchange.firstSoundAt === null) this.#change(exchange, { firstSoundAt: now }, "figures");
      exchange.sounds.push(event);
      exchange.soundMs += (event.samples / event.rate_hz) * 1000;
      this.emit("change", exchange, "sound");
      this.emit("sound", exchange, event);
    } else if (event.type === "error") {
      const { error, message, stage = null } = event;
      this.#change(exchange, { error: { error, message, stage } }, "error");
      if (stage) this.#light(turn, "failed", [stage]);
    } else {
      exchange.notes.push(event);
      this.emit("change", exchange, "note", event);
    }
    if (event.stage && event.type !== "error") this.#light(turn, "sent", [event.stage]);
  }

  #transcribed(exchange, event, now) {
    if (!event.final) return this.#change(exchange, { partial: event.text }, "asked");
    if (exchange.via === "live") exchange.askedAt = this.#gate.end() ?? now;
    this.#change(exchange, { partial: "", asked: event.text }, "asked");
    return undefined;
  }

  /** The exchange that an event is for: that of its run, else one that waits, else a new one. */
  #exchangeOf(turn, event) {
    const known = turn.byRun.get(event.run);
    if (known) return known;
    const exchange = this.#awaited(turn, event) ?? this.#add(turn, { via: "live" });
    for (const [run, earlier] of turn.byRun) {
      if (event.run > run) this.#finish(earlier, "done"); // a run begins when the one before has left
      if (event.run > run + KEPT_RUNS) turn.byRun.delete(run);
    }
    turn.byRun.set(event.run, exchange);
    const began = turn.lanes.get(event.run)?.began ?? event.t;
    this.#change(exchange, { turn: event.turn, run: event.run, from: turn.live ? began : 0 }, "turn");
    return exchange;
  }

  /** Of those that wait, the oldest this run may be of: nothing was seen of the run before the stage it entered at. */
  #awaited(turn, { run, stage }) {
    const place = (wanted) => turn.flow.stages.findIndex(({ name }) => name === wanted);
    const seen = [stage, ...(turn.lanes.get(run)?.at.keys() ?? [])].filter(Boolean).map(place);
    const at = turn.pending.findIndex(({ entry }) => seen.every((each) => each >= place(entry)));
    return at < 0 ? null : turn.pending.splice(at, 1)[0];
  }

  #doing(turn, { run, stage, state, t }) {
    this.#light(turn, state, [stage]);
    if (run === undefined) return;
    // No event says that a run is done: all of its stages have left then.
    if (!turn.lanes.has(run)) turn.lanes.set(run, { began: t, at: new Map() });
    turn.lanes.delete(run - KEPT_RUNS);
    const { at } = turn.lanes.get(run);
    if (state !== "first") at.set(stage, state);
    const exchange = turn.byRun.get(run);
    if (exchange && [...at.values()].every((last) => last === "done")) this.#finish(exchange, "done");
  }

  #interrupted(turn, event) {
    const exchange = turn.byRun.get(event.run) ?? this.#awaited(turn, event);
    if (exchange) {
      turn.byRun.set(event.run, exchange);
      this.#finish(exchange, "interrupted", true);
      this.emit("cut", exchange);
    }
    this.#light(turn, "over", turn.lanes.get(event.run)?.at.keys());
  }

  /** A frame did not fit; the turn goes on. */
  #complain(turn, event) {
    const exchange = turn.pending.shift() ?? this.#add(turn, { via: "live" });
    this.#change(exchange, { error: { ...event, stage: exchange.entry } }, "error");
    this.#finish(exchange, "error");
    this.emit("refused", event, exchange);
  }

  #fail(turn, error) {
    const running = turn.exchanges().filter(({ state }) => state === "running");
    const lost = error instanceof Closed;
    for (const exchange of running.length || turn.live ? running : [this.#add(turn, { via: "live" })]) {
      this.#change(exchange, { error: lost ? exchange.loss : exchange.refusal(error) }, "error");
      this.#finish(exchange, "error");
      if (!lost && exchange.entry) this.#light(turn, "failed", [exchange.entry]);
      this.emit("refused", error, exchange);
    }
  }

  #finish(exchange, state, late = false) {
    if (exchange.state !== "running" && !(late && exchange.state === "done")) return;
    this.#change(exchange, { state: exchange.error ? "error" : state }, "state");
  }

  /** A finished answer was not heard to its end. */
  unheard(exchange) {
    if (exchange.state !== "done") return;
    if (!this.turnOf(exchange)) exchange.trace.cut(exchange.run); // else the server says so
    this.#change(exchange, { state: "interrupted" }, "state");
  }

  /** Say what stages are doing, by default all of the turn's flow. */
  #light(turn, state, stages = turn.flow.stages.map(({ name }) => name)) {
    for (const stage of stages) this.emit("stage", stage, state, turn.flow);
  }

  #change(exchange, values, what) {
    Object.assign(exchange, values);
    this.emit("change", exchange, what);
  }
}
