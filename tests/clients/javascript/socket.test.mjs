// Live turns over a WebSocket.
import assert from "node:assert/strict";
import { test } from "node:test";
import { all, Client, Closed, EzflowError, Refused, serving, types, wav } from "./wire.mjs";

const event = (type, seq, more = {}) => ({ type, turn: 1, seq, t: 0, ...more });
const text = (seq, more = {}) => event("text", seq, { stage: "llm", text: `${seq}`, ...more });
const sound = (seq, bytes, more = {}) => event("audio", seq, { stage: "tts", rate_hz: 8000, channels: 1, bytes, ...more });
const ended = (more = {}) => event("turn.ended", 99, { reason: "done", ...more });
const STARTED = event("turn.started", 0);
const PCM = Int16Array.of(1, -2, 32767);

/** A client against a server that does as `talk` says. */
function talking(talk, use, options = {}) {
  return serving({ talk }, (url) => use(new Client(url, { user: "ann", ...options })));
}

async function errorOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: "nothing was raised" });
}

/** Says these after the turn has begun, and `turn.ended`; then waits for the client to close. */
function saying(...messages) {
  return async (peer) => {
    await peer.ready();
    await peer.started();
    for (const message of [STARTED, ...messages, ended()]) await peer.send(message);
    await peer.closed();
  };
}

test("a live turn is asked for as it was given, and nothing else is said", async () => {
  const starts = [];
  const talk = async (peer) => {
    await peer.ready();
    starts.push(await peer.started());
    await peer.send(STARTED);
    await peer.send(ended());
    assert.equal(await peer.closed(), 1000);
  };
  await talking(talk, async (client) => {
    assert.deepEqual(types(await all(await client.live())), ["turn.started", "turn.ended"]);
    const given = { entry: 2, options: { LLM: {} }, timeline: true, format: { rate_hz: 24_000, channels: 1 } };
    await all(await client.live(given));
    assert.deepEqual(starts, [{ type: "start" }, { type: "start", ...given }]);
  });
});

test("the socket is the flow's and the user's, and tells what the server said when it was ready", async () => {
  const urls = [];
  const talk = async (peer) => {
    urls.push([peer.url, peer.offered]);
    await peer.ready({ name: "live" });
    await peer.closed();
  };
  await serving({ talk }, async (url) => {
    const socket = await new Client(`${url}/live`, { user: "ann & bob", token: "a-token_of.mine" }).connect();
    assert.deepEqual([socket.session, socket.flow], ["ann", { name: "live" }]);
    await socket.close();
    await (await new Client(url, { user: "ann" }).connect()).close();
  });
  assert.deepEqual(urls, [
    ["/live/ws?user=ann%20%26%20bob", ["ezflow.v1", "token.a-token_of.mine"]],
    ["/ws?user=ann", ["ezflow.v1"]],
  ]);
});

test("what is sent arrives as the frame that it needs", async () => {
  const frames = [];
  const talk = async (peer) => {
    await peer.ready();
    await peer.started();
    await peer.send(STARTED);
    for (let n = 0; n < 9; n++) frames.push(await peer.receive());
    await peer.send(ended());
    await peer.closed();
  };
  const samples = Int16Array.of(9, ...PCM, 9);
  const file = wav(PCM, 24_000);
  await talking(talk, async (client) => {
    const live = await client.live({ format: { rate_hz: 24_000 } });
    live.send(samples.subarray(1, 4));
    live.send(PCM.buffer);
    live.send("hello", { entry: "llm" });
    live.send({ a: [1] });
    live.send(file);
    live.send(PCM, { entry: 1 });
    live.played({ turn: 1, seq: 17 }, 350.5);
    live.interrupt();
    live.end();
    live.end();
    await all(live);
  });
  const bytes = Buffer.from(PCM.buffer);
  const base64 = Buffer.from(file).toString("base64");
  assert.deepEqual(frames.slice(0, 2), [bytes, bytes]);
  assert.deepEqual(frames.slice(2), [
    { type: "input", data: "hello", entry: "llm" },
    { type: "input", data: { a: [1] } },
    { type: "input", data: base64 },
    { type: "input", data: base64, entry: 1 },
    { type: "played", turn: 1, seq: 17, ms: 350.5 },
    { type: "interrupt" },
    { type: "end" },
  ]);
});

test("what is sent too late is not: after the turn's end it is said, after the input's end it is a mistake", async () => {
  await talking(saying(), async (client) => {
    const live = await client.live();
    assert.equal(live.send("x"), true);
    await all(live);
    assert.equal(live.over, true);
    assert.equal(live.send("x"), false);
    live.end();
    live.interrupt();
    live.played({ turn: 1, seq: 1 }, 1);
    assert.throws(() => live.send("x"), EzflowError);
  });
});

test("the sound that follows an audio event is its own, however it is cut", async () => {
  const talk = async (peer) => {
    await peer.ready();
    await peer.started();
    for (const message of [STARTED, sound(1, 6), PCM, text(2, { text: "猫🎈" }), sound(3, 2), PCM.slice(1, 2), ended()]) {
      await peer.send(message, { cut: 1 });
    }
    await peer.closed();
  };
  await talking(talk, async (client) => {
    const [, one, words, two] = await all(await client.live());
    assert.deepEqual([one.pcm, one.seq, two.pcm, two.seq], [PCM, 1, PCM.slice(1, 2), 3]);
    assert.equal("bytes" in one, false);
    assert.equal(words.text, "猫🎈");
  });
});

test("a sound of no samples may come with a frame or without one", async () => {
  await talking(saying(sound(1, 0), new Uint8Array(0), sound(2, 0), text(3), sound(4, 6), PCM), async (client) => {
    const events = await all(await client.live());
    assert.deepEqual(events.slice(1, -1).map(({ pcm }) => pcm?.length), [0, 0, undefined, 3]);
  });
});

for (const [what, ...messages] of [
  ["sound of another length than was announced", sound(1, 4), PCM],
  ["sound that was not announced", PCM],
  ["something else than the sound that was announced", sound(1, 6), text(2)],
  ["what is no event", ["x"]],
]) {
  test(`${what} ends the socket with an error`, async () => {
    const talk = async (peer) => {
      await peer.ready();
      await peer.started();
      for (const message of [STARTED, ...messages]) await peer.send(message);
      await peer.closed();
    };
    await talking(talk, async (client) => {
      const live = await client.live();
      assert.equal((await live.next()).value.type, "turn.started");
      const error = await errorOf(live.next());
      assert.ok(error instanceof EzflowError && !(error instanceof Closed), error.message);
      assert.equal((await live.next()).done, true);
    });
  });
}

test("of a run nothing is told after its end, also of what waits to be taken; what was heard is", async () => {
  const run = { run: 1 };
  const heard = event("transcript", 1, { ...run, stage: "asr", text: "hello", final: true });
  const failed = event("error", 4, { ...run, stage: "llm", error: "X", message: "x" });
  const over = event("interrupted", 5, run);
  const messages = [heard, text(2, run), sound(3, 6, run), PCM, failed, over, text(6, run), text(7, { run: 2 })];
  await talking(saying(...messages), async (client) => {
    const live = await client.live();
    await live._finished; // all of it is there, and nothing has been taken
    assert.deepEqual(await all(live), [STARTED, heard, failed, over, text(7, { run: 2 }), ended()]);
  });
});

test("in a flow without runs an interruption ends what waits, and not what follows", async () => {
  await talking(saying(text(1), event("interrupted", 2), text(3)), async (client) => {
    const live = await client.live();
    await live._finished;
    assert.deepEqual(await all(live), [STARTED, event("interrupted", 2), text(3), ended()]);
  });
});

test("an interruption that found nothing to interrupt is told; that of no turn is not", async () => {
  const nothing = { type: "interrupted", turn: 1 };
  await talking(saying(nothing, { type: "interrupted", turn: null }), async (client) => {
    assert.deepEqual(await all(await client.live()), [STARTED, nothing, ended()]);
  });
});

test("an input that does not fit is an event, and the turn goes on", async () => {
  const complaint = { type: "error", error: "InputError", path: "data", message: "no" };
  await talking(saying(complaint, text(1)), async (client) => {
    assert.deepEqual(await all(await client.live()), [STARTED, complaint, text(1), ended()]);
  });
});

test("a start that does not fit is Refused, and the turn before it goes on", async () => {
  const talk = async (peer) => {
    await peer.ready();
    await peer.started();
    await peer.send(STARTED);
    assert.equal((await peer.expect("input")).data, "one");
    await peer.started({ error: "EntryError", path: "entry", message: "Entry 7 does not exist" });
    // What was sent for the refused turn has not been.
    assert.equal((await peer.expect("input")).data, "two");
    await peer.send(text(1));
    await peer.send(ended());
    await peer.closed();
  };
  await talking(talk, async (client) => {
    const socket = await client.connect();
    const live = socket.start();
    live.send("one");
    const other = socket.start({ entry: 7 });
    assert.equal(other.send("lost"), true);
    assert.equal(live.send("lost, too: the other is begun"), false);
    const error = await errorOf(other.next());
    assert.ok(error instanceof Refused);
    assert.deepEqual([error.status, error.error, error.path, error.message], [
      null, "EntryError", "entry", "Entry 7 does not exist",
    ]);
    assert.equal(other.over, true);
    assert.equal(other.send("lost"), false);
    assert.equal(live.send("two"), true);
    assert.deepEqual(types(await all(live)), ["turn.started", "text", "turn.ended"]);
    await socket.close();
  });
});

test("what is fed to a turn before the one before it has made room arrives when it has", async () => {
  const talk = async (peer) => {
    await peer.ready();
    await peer.started();
    await peer.send(STARTED);
    await peer.started();
    assert.deepEqual([(await peer.expect("input")).data, (await peer.expect("end")).type], ["for the second", "end"]);
    await peer.send(ended({ reason: "interrupted" }));
    for (const message of [STARTED, text(1), ended()]) await peer.send({ ...message, turn: 2 });
    await peer.closed();
  };
  await talking(talk, async (client) => {
    const socket = await client.connect();
    const first = socket.start();
    const second = socket.start();
    second.send("for the second");
    second.end();
    assert.deepEqual((await all(first)).at(-1), ended({ reason: "interrupted" }));
    assert.deepEqual(await all(second), [STARTED, text(1), ended()].map((told) => ({ ...told, turn: 2 })));
    assert.deepEqual([first.turn, second.turn], [1, 2]);
    await socket.close();
  });
});

test("a complaint that comes before a start is not the start's", async () => {
  const talk = async (peer) => {
    await peer.ready();
    await peer.expect("ping");
    await peer.send({ type: "error", error: "TurnClosedError", message: "of an input that came too late" });
    await peer.send({ type: "pong" });
    await peer.expect("start");
    await peer.expect("ping");
    await peer.send({ type: "pong" });
    await peer.send(STARTED);
    await peer.send({ type: "error", error: "TurnClosedError", message: "of another one" });
    await peer.send(ended());
    await peer.closed();
  };
  await talking(talk, async (client) => {
    assert.deepEqual(types(await all(await client.live())), ["turn.started", "turn.ended"]);
  });
});

test("a turn that cannot begin though its start was good is Refused", async () => {
  const talk = async (peer) => {
    await peer.ready();
    for (const error of ["StageStuck", "TurnClosedError"]) {
      await peer.started();
      await peer.send({ type: "error", error, message: "m did not leave" });
    }
    await peer.closed();
  };
  await talking(talk, async (client) => {
    const socket = await client.connect();
    for (const name of ["StageStuck", "TurnClosedError"]) {
      const error = await errorOf(socket.start().next());
      assert.deepEqual([error.name, error.error], ["Refused", name]);
    }
    await socket.close();
  });
});

test("a turn is told its own events alone", async () => {
  await talking(saying({ ...text(1), turn: 7 }, { type: "news" }, text(2)), async (client) => {
    assert.deepEqual(await all(await client.live()), [STARTED, text(2), ended()]);
  });
});

test("a socket that is closed in mid-turn is Closed, after what came", async () => {
  const talk = async (peer) => {
    await peer.ready();
    await peer.started();
    await peer.send(STARTED);
    await peer.close(1001, "the server is shutting down");
  };
  await talking(talk, async (client) => {
    const socket = await client.connect();
    const live = socket.start();
    await socket.closed;
    assert.equal((await live.next()).value.type, "turn.started");
    const error = await errorOf(live.next());
    assert.ok(error instanceof Closed && error instanceof EzflowError);
    assert.deepEqual([error.code, error.reason], [1001, "the server is shutting down"]);
    assert.equal((await live.next()).done, true);
    assert.equal((await socket.closed).code, 1001);
    assert.equal(live.send("x"), false);
    assert.throws(() => socket.start(), Closed);
    assert.ok((await errorOf(socket.ping())) instanceof Closed);
  });
});

test("a connection that breaks is Closed with 1006", async () => {
  const talk = async (peer) => {
    await peer.ready();
    await peer.started();
    peer.drop();
  };
  await talking(talk, async (client) => {
    assert.equal((await errorOf(all(await client.live()))).code, 1006);
  });
});

test("a socket that is closed before it is ready says why", async () => {
  await talking((peer) => peer.close(1008, "a token is needed"), async (client) => {
    const error = await errorOf(client.connect());
    assert.deepEqual([error.name, error.code, error.reason], ["Closed", 1008, "a token is needed"]);
  });
});

test("a server that is not there is Closed", async () => {
  const error = await errorOf(new Client("http://127.0.0.1:9").live());
  assert.ok(error instanceof Closed && error.code === 1006 && error.reason.startsWith("no connection"), error.message);
});

test("aborting closes the socket, and raises the reason", async () => {
  const talk = async (peer) => {
    await peer.ready();
    await peer.started();
    assert.equal(await peer.closed(), 1000);
  };
  await talking(talk, async (client) => {
    const aborting = new AbortController();
    const live = await client.live({ signal: aborting.signal });
    const next = errorOf(live.next());
    aborting.abort();
    assert.equal((await next).name, "AbortError");
    assert.equal((await errorOf(client.live({ signal: aborting.signal }))).name, "AbortError");
  });
});

test("aborting ends the wait for a server that says nothing", async () => {
  const aborting = new AbortController();
  const talk = async (peer) => {
    aborting.abort(new Error("enough"));
    await peer.closed();
  };
  await talking(talk, async (client) => {
    assert.equal((await errorOf(client.connect({ signal: aborting.signal }))).message, "enough");
  });
});

test("leaving the loop closes a socket of the turn's own", async () => {
  const talk = async (peer) => {
    await peer.ready();
    await peer.started();
    await peer.send(STARTED);
    assert.equal(await peer.closed(), 1000);
  };
  await talking(talk, async (client) => {
    const live = await client.live();
    for await (const told of live) {
      assert.equal(told.type, "turn.started");
      break;
    }
    assert.equal((await live.next()).done, true);
  });
});

test("leaving a turn on a socket that is kept ends the turn, and another may follow", async () => {
  const talk = async (peer) => {
    await peer.ready();
    await peer.started();
    await peer.send(STARTED);
    await peer.expect("interrupt");
    await peer.expect("end");
    await peer.send(text(1));
    await peer.send(ended());
    await peer.started();
    for (const message of [STARTED, ended()]) await peer.send({ ...message, turn: 2 });
    await peer.closed();
  };
  await talking(talk, async (client) => {
    const socket = await client.connect();
    const live = socket.start();
    await live.next();
    const waiting = live.next();
    await live.close();
    assert.deepEqual([(await waiting).done, (await live.next()).done, live.over], [true, true, true]);
    assert.deepEqual(types(await all(socket.start())), ["turn.started", "turn.ended"]);
    await socket.close();
    assert.equal((await socket.closed).code, 1000);
  });
});

test("a ping is answered, in its own time", async () => {
  const talk = async (peer) => {
    await peer.ready();
    await peer.expect("ping");
    await peer.send({ type: "pong" });
    await peer.started();
    await peer.expect("ping");
    await peer.send({ type: "pong" });
    await peer.closed();
  };
  await talking(talk, async (client) => {
    const socket = await client.connect();
    assert.ok((await socket.ping()) >= 0);
    const live = socket.start();
    assert.ok((await socket.ping()) >= 0);
    await socket.close();
    assert.equal((await live.next()).done, true);
  });
});

test("several may wait for the next event", async () => {
  await talking(saying(text(1)), async (client) => {
    const live = await client.live();
    const told = await Promise.all([live.next(), live.next(), live.next(), live.next(), live.next()]);
    assert.deepEqual(told.map(({ value }) => value?.type), ["turn.started", "text", "turn.ended", undefined, undefined]);
  });
});

test("who does not take what comes loses hints first, and then the connection", async () => {
  const talk = async (peer) => {
    await peer.ready();
    await peer.started();
    for (let seq = 0; seq < 300; seq++) await peer.send(event("stage", seq, { stage: "llm", state: "working" }));
    await peer.send(STARTED);
    for (let seq = 0; seq < 20_000; seq++) peer.send(text(seq));
    assert.equal(await peer.closed(), 4008);
  };
  await talking(talk, async (client) => {
    const socket = await client.connect();
    const live = socket.start();
    assert.equal((await socket.closed).code, 4008);
    const told = [];
    const error = await errorOf((async () => {
      for await (const each of live) told.push(each.type);
    })());
    assert.equal(error.code, 4008);
    assert.equal(told.filter((type) => type === "stage").length, 0);
    assert.equal(told.length, 20_001);
  });
});

test("without a WebSocket it is said what to do", async () => {
  const own = globalThis.WebSocket;
  delete globalThis.WebSocket;
  try {
    assert.match((await errorOf(new Client().live())).message, /Node 22, or Node 20 with --experimental-websocket/);
  } finally {
    globalThis.WebSocket = own;
  }
});

test("a WebSocket that is handed in is used", async () => {
  const made = [];
  class Other extends WebSocket {
    constructor(...given) {
      super(...given);
      made.push(given);
    }
  }
  await talking(saying(), async (client) => {
    await all(await client.live());
  }, { WebSocket: Other });
  assert.deepEqual(made.map(([, offered]) => offered), [["ezflow.v1"]]);
});

test("a token that no WebSocket can carry is an error that does not tell it", async () => {
  const error = await errorOf(new Client("http://127.0.0.1:9", { token: "with a space" }).connect());
  assert.ok(error instanceof EzflowError && !(error instanceof Closed));
  assert.equal(error.message.includes("with a space"), false);
});

test("sound becomes a WAV, in one piece or several", () => {
  const file = Buffer.from(wav([PCM.subarray(0, 1), PCM.subarray(1)], 24_000, 1));
  assert.deepEqual(file, Buffer.from(wav(PCM, 24_000)));
  assert.equal(file.toString("latin1", 0, 16), "RIFF*\0\0\0WAVEfmt ");
  assert.deepEqual([file.readUInt16LE(20), file.readUInt16LE(22), file.readUInt32LE(24), file.readUInt32LE(28)], [1, 1, 24_000, 48_000]);
  assert.deepEqual([file.readUInt16LE(32), file.readUInt16LE(34), file.readUInt32LE(40)], [2, 16, 6]);
  assert.deepEqual(file.subarray(44), Buffer.from(PCM.buffer));
});
