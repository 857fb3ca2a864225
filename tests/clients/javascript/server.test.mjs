// The client against a server of ezflow's own: TEST_URL has the flows of test_javascript.py, TEST_GUARDED_URL tokens.
import assert from "node:assert/strict";
import { test } from "node:test";
import { all, Client, Closed, EzflowError, Refused, types } from "./wire.mjs";

const { TEST_URL: url, TEST_GUARDED_URL: guarded, EZFLOW_TOKEN: token } = process.env;

let users = 0;
function client(flow = "", options = {}) {
  users += 1;
  return new Client(url + flow, { user: `user ${users}`, ...options });
}

/** Runs `use(socket)`, and closes the socket whatever happens. */
async function connected(asker, use) {
  const socket = await asker.connect();
  try {
    await use(socket);
  } finally {
    await socket.close();
  }
}

const words = (events) => events.filter(({ type }) => type === "text").map(({ text }) => text).join("");
const order = (events) => events.map(({ seq }) => seq);

test("a turn says the same over HTTP and over a WebSocket, sound and all", async () => {
  const over = await all(client().turn("hello", { entry: "says" }));
  const live = await client().live({ entry: "says" });
  live.send("hello");
  live.end();
  const socket = await all(live);
  const bare = (events) => events.filter(({ type }) => type !== "turn.ended").map(({ t, seq, ...rest }) => rest);
  for (const type of ["text", "audio"]) {
    const of = (events) => bare(events).filter((event) => event.type === type);
    assert.deepEqual(of(over), of(socket));
    assert.ok(of(over).length);
  }
  for (const events of [over, socket]) {
    assert.deepEqual(order(events), events.map((_, n) => n));
    assert.deepEqual([events[0].type, events.at(-1).reason], ["turn.started", "done"]);
    assert.equal(words(events), "You said hello.");
  }
  const sound = over.find(({ type }) => type === "audio");
  assert.deepEqual([sound.pcm.length, sound.rate_hz], [sound.samples, 24_000]);
});

test("sound is understood as it was meant: a frame, bytes of a request, a WAV for a stage further on", async () => {
  const pcm = new Int16Array(1600).fill(7);
  assert.equal(words(await all(client("/measure").turn(pcm))), "1600 samples of 7 at 16000");
  const live = await client("/measure").live({ format: { rate_hz: 8000 } });
  live.send(pcm);
  live.send(pcm, { entry: "measures" });
  live.end();
  assert.equal(words(await all(live)), "1600 samples of 7 at 80001600 samples of 7 at 8000");
});

test("a timeline is told to who asks for it", async () => {
  const stages = (events) => events.filter(({ type }) => type === "stage").map(({ stage, state }) => `${stage} ${state}`);
  assert.deepEqual(stages(await all(client().turn("hello", { entry: "says" }))), []);
  const over = stages(await all(client().turn("hello", { entry: "says", timeline: true })));
  const live = await client().live({ entry: "says", timeline: true });
  live.send("hello");
  live.end();
  for (const told of [over, stages(await all(live))]) {
    assert.ok(told.includes("says working") && told.includes("fake_tts done"), `${told}`);
  }
});

test("an answer is interrupted by its listener, and the next question is answered", async () => {
  const live = await client("/live").live();
  live.send("forever", { entry: "says" });
  const runs = new Set();
  const after = [];
  for await (const event of live) {
    if (event.type === "text" && !runs.size) live.interrupt();
    if (event.type === "interrupted") {
      runs.add(event.run);
      live.send("hello", { entry: "says" });
      live.end();
    } else if (runs.size && event.run !== undefined) {
      after.push(event);
    }
  }
  assert.deepEqual([...runs], [1]);
  assert.ok(after.every(({ run }) => run === 2));
  assert.equal(words(after), "You said hello.");
});

test("an interruption where nothing is at work is told as well", async () => {
  const live = await client("/live").live();
  await live.next();
  live.interrupt();
  assert.equal((await live.next()).value.type, "interrupted");
  live.end();
  assert.deepEqual(types(await all(live)), ["turn.ended"]);
});

test("a user's turn is ended from elsewhere", async () => {
  const asker = client();
  const turn = asker.turn("forever", { entry: "says" });
  while ((await turn.next()).value.type !== "text");
  assert.equal(await asker.interrupt(), 1);
  assert.equal((await all(turn)).at(-1).reason, "interrupted");
  assert.equal(await asker.interrupt(), null);
});

test("who leaves ends the turn: the next one is the user's second, and waits for nothing", async () => {
  const asker = client();
  for await (const event of asker.turn("forever", { entry: "says" })) if (event.type === "text") break;
  const [started] = await all(asker.turn("hello", { entry: "says" }));
  assert.equal(started.turn, 2);
});

test("a start that does not fit leaves the turn before it as it was", () => connected(client(), async (socket) => {
  const live = socket.start({ entry: "says" });
  live.send("one");
  for (const [start, name] of [
    [{ entry: 7 }, "EntryError"],
    [{ format: { rate_hz: 0 } }, "InputError"],
    [{ options: { X: {} } }, "InputError"],
  ]) {
    const other = socket.start(start);
    other.send("lost");
    other.end();
    await assert.rejects(other.next(), (error) => error instanceof Refused && error.error === name && error.status === null);
  }
  live.send("two");
  live.end();
  assert.equal(words(await all(live)), "You said one.You said two.");
  const last = socket.start({ entry: "says" });
  last.send("three");
  last.end();
  assert.equal(words(await all(last)), "You said three.");
}));

test("turns that follow each other at once do not mix", () => connected(client(), async (socket) => {
  const lives = ["one", "two", "three", "four"].map((word) => {
    const live = socket.start({ entry: "says" });
    live.send(word);
    live.end();
    return live;
  });
  const told = await Promise.all(lives.map(all));
  assert.deepEqual(lives.map(({ turn }) => turn), [1, 2, 3, 4]);
  for (const [n, events] of told.entries()) {
    assert.ok(events.every(({ turn }) => turn === n + 1));
    assert.deepEqual([events[0].type, events.at(-1).type], ["turn.started", "turn.ended"]);
  }
  assert.deepEqual([words(told[3]), told[3].at(-1).reason], ["You said four.", "done"]);
}));

test("an input that does not fit is told, and the turn goes on", async () => {
  const live = await client().live({ entry: "says" });
  live.send({ not: "text" });
  live.send("hello");
  live.end();
  const events = await all(live);
  const [complaint] = events.filter(({ type }) => type === "error");
  assert.deepEqual([complaint.error, complaint.path, complaint.turn], ["InputError", "data", undefined]);
  assert.equal(words(events), "You said hello.");
});

test("a stage that fails is an error of the turn", async () => {
  const events = await all(client().turn("fail", { entry: "says" }));
  const error = events.find(({ type }) => type === "error");
  assert.deepEqual([error.stage, error.error, error.message], ["says", "RuntimeError", "it failed"]);
  assert.equal(events.at(-1).reason, "error");
});

test("a turn that a stage does not leave is Refused, and so is the one that waits for it", () => connected(client("/stubborn"), async (socket) => {
  const first = socket.start();
  first.send("x");
  while ((await first.next()).value.type !== "text");
  const second = socket.start();
  const stuck = (error) => error instanceof Refused && error.error === "StageStuck";
  await assert.rejects(all(first), stuck);
  await assert.rejects(all(second), stuck);
}));

test("what the server says of itself", async () => {
  const flow = await client("/live").flow();
  assert.deepEqual([flow.name, flow.live, flow.flows], ["live", true, ["voice", "live", "measure", "stubborn"]]);
  assert.deepEqual(flow.stages.map(({ takes }) => takes), ["audio", "audio", "text", "text"]);
  await connected(client("/live"), async (socket) => assert.deepEqual(socket.flow, flow));
  assert.equal((await client().schema("turns")).title, "TurnRequest");
  assert.equal((await client().schema("events")).title, "Event");
  assert.equal((await client().ready()).status, "ready");
  await assert.rejects(client().schema("everything"), (error) => error.status === 422);
  await assert.rejects(client("/nowhere").flow(), (error) => error.status === 404 && error.error === "NotFound");
});

test("a token opens the server, and only for its users", async () => {
  const as = (user, options = {}) => new Client(guarded, { user, ...options });
  await assert.rejects(all(as("ann").turn("x", { entry: "says" })), { status: 401, error: "Unauthorized" });
  await assert.rejects(as("ann").connect(), (error) => error instanceof Closed && error.code === 1008);
  await assert.rejects(all(as("bob", { token }).turn("x", { entry: "says" })), { status: 403, error: "Forbidden" });
  await assert.rejects(as("bob", { token }).connect(), { code: 1008, reason: "this token does not stand for user 'bob'." });
  assert.equal((await as("ann").ready()).status, "ready");
  const live = await as("ann", { token }).live({ entry: "says" });
  live.send("hello");
  live.end();
  assert.equal(words(await all(live)), "You said hello.");
  assert.equal(words(await all(as("ann", { token }).turn("hello", { entry: "says" }))), "You said hello.");
});

test("who asks too often is told when to come again", async () => {
  const asker = new Client(guarded, { user: "eager", token });
  const told = [];
  for (let n = 0; n < 4; n++) {
    await all(asker.turn("hello", { entry: "says" })).catch((error) => told.push(error));
  }
  assert.equal(told.length, 1);
  assert.deepEqual([told[0].status, told[0].error, told[0].retryAfter], [429, "TooManyRequests", 100]);
  assert.ok(told[0] instanceof EzflowError);
});
