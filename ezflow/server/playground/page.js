// The start of the page: makes the parts, and joins them by what they tell each other.

import { Connection } from "./connection.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { askForToken, setUpDialogs, showUser } from "./dialogs.js";
import { brief, byId, el, throttled } from "./dom.js";
import { Drawing } from "./drawing.js";
import { Figures } from "./figures.js";
import { setUpFolds } from "./folds.js";
import { Inspector } from "./inspector.js";
import { Options } from "./options.js";
import { Sounds } from "./sounds.js";
import { SpeechGate } from "./speech.js";
import * as storage from "./storage.js";
import { tableOf } from "./table.js";
import { setUpTheme } from "./theme.js";
import { Timeline } from "./timeline.js";
import { Trace } from "./trace.js";
import { Turns } from "./turns.js";
import { View } from "./view.js";
import { Voice } from "./voice.js";

const base = new URL(".", location.href).href.replace(/\/$/, "");
const gate = new SpeechGate();
const connection = new Connection(base, storage.user(), storage.token());
const turns = new Turns(gate);
const sounds = new Sounds();
const options = new Options(byId("options-body"), byId("options-count"));
const figures = new Figures(byId("figures"));
const keysOf = (flow) => flow.stages.map((stage) => stage.options).filter(Boolean);
const optionsOf = (flow) => options.changed(keysOf(flow));
const voice = new Voice({ connection, turns, sounds, gate, options: optionsOf });
const composer = new Composer({ voice, ask, stop });
const drawing = new Drawing(document.querySelector(".flow-stages"), enter);
const inspector = new Inspector(
  Object.fromEntries(
    ["list", "type", "pause", "clear", "newest", "count", "chosen", "chosen-title", "json", "copy"].map((name) => [
      name === "chosen-title" ? "title" : name,
      byId(`events-${name}`),
    ]),
  ),
);
const conversation = new Conversation(byId("log"), byId("welcome"), {
  replay: (x) => sounds.replay(x),
  again,
  timeline: choose,
  curl,
});
const timeline = new Timeline(byId("timeline-canvas"), byId("timeline-tip"), byId("legend"), view);

let entry = null;
// The exchange whose timeline was chosen; null is the latest.
let chosen = null;
// How long it took to silence the answer that is cut off for the next; null if none is.
let cutMs = null;
// The lanes of the flow as it is shown, before there is a turn.
let blank = null;

// The entry and what is sent to it.

function enter(stage) {
  entry = stage;
  drawing.enter(stage.name);
  composer.enter(connection.flow, stage);
}

function showFlow(flow) {
  const { stages } = flow;
  // The front, if it takes what can be typed.
  const first =
    stages.find(({ name }) => name === entry?.name) ?? stages.find(({ takes }) => takes !== "audio") ?? stages[0];
  blank = new View(new Trace(flow), null, false);
  drawing.show(flow, first.name);
  enter(first);
  const names = [...connection.flows.keys()];
  byId("flow-pick").hidden = names.length < 2;
  byId("flow").replaceChildren(...names.map((name) => el("option", { value: name }, name)));
  byId("flow").value = flow.name ?? "";
  refresh();
  connection
    .client()
    .schema("turns")
    .then(
      (schema) => options.show(flow, schema),
      (error) => options.fail(`The options cannot be shown: ${error.message}`),
    );
}

function ask(stage, via, input, words) {
  const { flow } = connection;
  const wrong = options.unreadable(keysOf(flow));
  if (wrong) {
    composer.note(`This is not sent as long as the option ${wrong.name} cannot be read.`);
    wrong.input.focus();
    return false;
  }
  cutMs = silence(performance.now());
  sounds.unlock();
  chosen = null;
  const asked = via === "wav" ? { file: words } : { asked: words };
  if (turns.feed(via === "wav" ? new Uint8Array(input) : input, { via, entry: stage.name, ...asked })) return true;
  const sent = optionsOf(flow);
  const body = via === "wav" ? null : { user: connection.user, input, entry: stage.name, options: sent };
  const client = connection.client();
  const repeat = () => ask(stage, via, input, words);
  turns.ask(client, flow, input, { via, entry: stage.name, ...asked, options: sent, body, again: repeat });
  return true;
}

function change(name) {
  if (name !== connection.flow.name && voice.listens) {
    voice.stopListening("Hands-free has ended: another flow was chosen.");
  }
  connection.choose(name);
}

function again(exchange) {
  change(exchange.flow.name ?? "");
  exchange.again();
  byId("message").focus();
}

function curl({ body, flow }) {
  const json = JSON.stringify(body).replaceAll("'", "'\\''");
  const token = storage.token() ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const url = `${connection.client(flow.name).url}/turns?user=${encodeURIComponent(body.user)}`;
  return `curl -N '${url.replaceAll("'", "%27")}' -H 'Content-Type: application/json'${token} -d '${json}'`;
}

// Stopping, and what is heard.

/**
 * Silence what is played, and what is still on its way: what was not heard is missing from its answer. Tells how long
 * that took, in ms since it was wished for; null if nothing was played.
 */
function silence(since) {
  let ms = null;
  for (const exchange of turns.exchanges) exchange.muted ||= exchange.state === "running";
  for (const exchange of sounds.stop(since)) {
    turns.unheard(exchange);
    conversation.change(exchange, "figures");
    ms = exchange.silenceMs;
  }
  refresh();
  return ms;
}

function stop() {
  const since = performance.now();
  if (voice.records) return voice.abandon();
  silence(since);
  return turns.interrupt();
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.defaultPrevented && !document.querySelector("dialog[open]")) stop();
});

turns.on("sound", (exchange, event) => {
  if (exchange.muted) return;
  sounds.play(exchange, event);
  if (sounds.suspended) composer.note("The browser holds the sound back: click anywhere to hear it.");
});
turns.on("cut", (exchange) => {
  if (sounds.sounds(exchange)) cutMs = silence(gate.onset());
});
sounds.on("heard", (exchange, event, ms) => {
  turns.turnOf(exchange)?.stream?.played(event, ms);
  refresh();
});
sounds.on("playing", (exchange, plays) => {
  conversation.playing(exchange, plays);
  refresh();
});
voice.on("asked", () => {
  chosen = null;
  const ms = silence(performance.now());
  if (!voice.listens) cutMs = ms; // what is said hands-free comes later
});
voice.on("state", () => refresh());

// The timeline and its figures.

function view() {
  const { live } = turns;
  const exchange = chosen ?? turns.exchanges.at(-1) ?? null;
  const isSilent = live && exchange?.trace !== live.trace; // nothing was said yet
  if (isSilent && !chosen) return new View(live.trace, null, true);
  if (!exchange) return blank;
  const runs = exchange.state === "running" || sounds.sounds(exchange);
  return new View(exchange.trace, exchange, runs);
}

function choose(exchange) {
  chosen = exchange;
  byId("timeline-pick").value = exchange ? String(exchange.id) : "";
  refresh();
  byId("timeline").scrollIntoView({ block: "nearest" });
}

const tell = throttled(() => {
  const shown = view();
  timeline.describe(shown);
  figures.show(shown?.exchange);
  if (byId("timeline-table").parentElement.open) byId("timeline-table").replaceChildren(tableOf(shown));
  composer.running(turns.answers || sounds.playing || voice.state === "recording");
}, 10);

function refresh() {
  timeline.draw();
  tell();
}

const list = throttled(() => {
  const pick = byId("timeline-pick");
  const choices = turns.exchanges
    .slice(-50)
    .reverse()
    .map((exchange) => {
      const { where, words } = exchange.title;
      return el("option", { value: exchange.id }, words ? `${where}: ${brief(words, 30)}` : where);
    });
  pick.replaceChildren(el("option", { value: "" }, "the latest"), ...choices);
  pick.value = chosen ? String(chosen.id) : "";
}, 4);

byId("timeline-pick").addEventListener("change", ({ target }) => {
  choose(turns.exchanges.find(({ id }) => String(id) === target.value) ?? null);
});
byId("timeline-table").parentElement.addEventListener("toggle", refresh);

// What turns tell.

turns.on("exchange", (exchange) => {
  exchange.silenceMs = cutMs;
  cutMs = null;
  conversation.add(exchange);
  list();
  refresh();
});
turns.on("dropped", (exchange) => {
  conversation.drop(exchange);
  if (chosen === exchange) choose(null);
});
turns.on("change", (exchange, what, event) => {
  conversation.change(exchange, what, event);
  if (["turn", "asked", "state"].includes(what)) list();
  refresh();
});
turns.on("event", (event) => inspector.take(event));
turns.on("stage", (name, state, flow) => {
  if (flow.name === connection.flow.name) drawing.tell(name, state);
});
turns.on("refused", ({ path, message }) => {
  if (path?.startsWith("options.")) options.refuse(path, message);
});
turns.on("over", refresh);

// The connection.

connection.on("status", (state, words) => {
  byId("status").dataset.state = state;
  byId("status").textContent = words;
  byId("retry").hidden = state !== "offline" && state !== "reconnecting";
});
connection.on("flow", showFlow);
connection.on("denied", (reason) => askForToken(connection.user, storage.token(), reason));
byId("retry").addEventListener("click", () => connection.retry());
byId("flow").addEventListener("change", ({ target }) => change(target.value));

function identify(user, token = storage.token()) {
  if (voice.listens) voice.stopListening();
  if (user !== connection.user && turns.exchanges.length) conversation.say(`From here on as ${user}`);
  storage.setUser(user);
  storage.setToken(token ?? null);
  showUser(user);
  connection.identify(user, token);
}

/** A fault of the page itself: better said than silent. */
function fail(error) {
  byId("banner").textContent = `This page has failed (${error?.message ?? error}). Reload it.`;
  byId("banner").hidden = false;
}
addEventListener("error", ({ error, message }) => fail(error ?? message));
addEventListener("unhandledrejection", ({ reason }) => fail(reason));

setUpDialogs(identify);
setUpFolds(refresh);
setUpTheme(byId("theme"), () => timeline.recolour());
showUser(connection.user);
connection.open();
