// Turns and questions over HTTP.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { all, Client, Closed, EzflowError, line, Refused, serving, types } from "./wire.mjs";

const STARTED = { type: "turn.started", turn: 1, seq: 0, t: 0 };
const ENDED = { type: "turn.ended", turn: 1, seq: 9, t: 1, reason: "done" };

/** What a client gets of a body that comes in these pieces. */
async function told(pieces, { path = "/turns?user=ann", ...options } = {}) {
  let events;
  const answer = async (request, response) => {
    assert.equal(request.url, path);
    response.writeHead(200, { "Content-Type": "application/x-ndjson" });
    for (const piece of pieces) await new Promise((resolve) => response.write(piece, resolve));
    response.end();
  };
  await serving({ answer }, async (url) => {
    events = await all(new Client(url, { user: "ann" }).turn("x", options));
  });
  return events;
}

function answering(status, body, headers = {}) {
  return { answer: (_, response) => response.writeHead(status, headers).end(body) };
}

async function errorOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: "nothing was raised" });
}

test("a request holds what was given, and nothing else", async () => {
  const asked = [];
  const answer = (request, response, body) => {
    asked.push([request.method, request.url, request.headers, JSON.parse(body)]);
    response.end(line(ENDED));
  };
  await serving({ answer }, async (url) => {
    await all(new Client(`${url}/live/`, { user: "ann", token: "a-token-of-mine" }).turn("hello"));
    const options = { LLM: { temperature: 0.5 } };
    await all(new Client(url, { user: "bob" }).turn({ a: [1] }, { entry: "llm", options, timeline: true }));
  });
  const [[method, path, headers, body], [, otherPath, otherHeaders, other]] = asked;
  assert.deepEqual([method, path, body], ["POST", "/live/turns?user=ann", { user: "ann", input: "hello" }]);
  assert.equal(headers.authorization, "Bearer a-token-of-mine");
  assert.equal(headers["content-type"], "application/json");
  assert.equal(headers.accept, "application/x-ndjson");
  assert.equal(otherPath, "/turns?user=bob");
  assert.equal(otherHeaders.authorization, undefined);
  assert.deepEqual(other, {
    user: "bob", input: { a: [1] }, entry: "llm", options: { LLM: { temperature: 0.5 } }, timeline: true,
  });
});

test("sound is sent as base64, whatever holds it", async () => {
  const inputs = [];
  const answer = (_, response, body) => {
    inputs.push(JSON.parse(body).input);
    response.end(line(ENDED));
  };
  const bytes = Uint8Array.from({ length: 100_000 }, (_, n) => n % 251);
  const view = new Int16Array(bytes.buffer, 200, 20);
  await serving({ answer }, async (url) => {
    for (const input of [bytes, bytes.buffer, Buffer.from(bytes), new Blob([bytes]), view]) {
      await all(new Client(url).turn(input));
    }
  });
  const whole = Buffer.from(bytes).toString("base64");
  assert.deepEqual(inputs, [whole, whole, whole, whole, Buffer.from(bytes.subarray(200, 240)).toString("base64")]);
});

test("each client without a user's name is somebody else", () => {
  assert.notEqual(new Client().user, new Client().user);
  assert.equal(new Client().url, "http://127.0.0.1:3421");
  assert.equal(new Client("wss://example.org/live/?x#y").url, "https://example.org/live");
  assert.throws(() => new Client("ftp://example.org"), EzflowError);
});

test("events come whole however the body is cut, also within a character", async () => {
  const text = { type: "text", turn: 1, seq: 1, t: 0.1, stage: "llm", text: "Größe 猫 🎈\n\u2028" };
  const body = Buffer.from(line(STARTED) + "\r\n\n" + line(text).replace("\n", "\r\n") + JSON.stringify(ENDED));
  const bytes = [...body].map((byte) => Buffer.from([byte]));
  for (const pieces of [bytes, [body], [body.subarray(0, 70), body.subarray(70, 137), body.subarray(137)]]) {
    assert.deepEqual(await told(pieces), [STARTED, text, ENDED]);
  }
});

test("a line of many megabytes in many pieces is one event", async () => {
  const data = Buffer.alloc(3 * 1024 * 1024, 7).toString("base64");
  const body = Buffer.from(line({ type: "audio", turn: 1, seq: 1, rate_hz: 24_000, channels: 1, data }) + line(ENDED));
  const pieces = Array.from({ length: 500 }, (_, n) => body.subarray((n * body.length) / 500, ((n + 1) * body.length) / 500));
  const [sound] = await told(pieces);
  assert.equal(sound.pcm.length, (3 * 1024 * 1024) / 2);
  assert.equal(sound.pcm.at(-1), 0x0707);
});

test("an audio event has its samples, and not their base64", async () => {
  const pcm = Int16Array.of(0, 1, -1, 32767, -32768, 256);
  const data = Buffer.from(pcm.buffer).toString("base64");
  const event = { type: "audio", turn: 1, seq: 1, t: 0, stage: "tts", rate_hz: 8000, channels: 2, samples: 3 };
  const [sound] = await told([line({ ...event, data }), line(ENDED)]);
  assert.deepEqual(sound, { ...event, pcm });
});

test("events of a module's own pass as they are", async () => {
  const mood = { type: "mood", turn: 1, seq: 1, t: 0, stage: "llm", data: { glad: true } };
  assert.deepEqual(await told([line(mood), line(ENDED)]), [mood, ENDED]);
});

test("of a run nothing is told after its end", async () => {
  const text = (run, seq) => ({ type: "text", turn: 1, run, seq, t: 0, stage: "llm", text: "x" });
  const over = { type: "interrupted", turn: 1, run: 1, seq: 2, t: 0 };
  assert.deepEqual(await told([text(1, 1), over, text(1, 3), text(2, 4), ENDED].map(line)), [text(1, 1), over, text(2, 4), ENDED]);
});

test("what follows the turn's end is not read", async () => {
  assert.deepEqual(types(await told([line(ENDED), line(STARTED)])), ["turn.ended"]);
});

for (const [what, bad] of [["not JSON", "<html>"], ["no event", "[1]"], ["no event", "null"], ["no event", '{"type":1}']]) {
  test(`a line that is ${what} (${bad}) is an error that shows it`, async () => {
    const error = await errorOf(told([line(STARTED), `${bad}\n`, line(ENDED)]));
    assert.ok(error instanceof EzflowError && error.message.includes(what) && error.message.includes(bad), error.message);
  });
}

test("an answer that ends before its turn is Closed", async () => {
  const error = await errorOf(told([line(STARTED)]));
  assert.ok(error instanceof Closed && error instanceof EzflowError);
  assert.equal(error.code, 1006);
});

test("an answer that breaks off is Closed, after what came", async () => {
  const answer = (_, response) => {
    response.writeHead(200);
    response.write(line(STARTED), () => response.destroy());
  };
  await serving({ answer }, async (url) => {
    const events = new Client(url).turn("x");
    assert.deepEqual((await events.next()).value, STARTED);
    assert.ok((await errorOf(events.next())) instanceof Closed);
  });
});

test("a server that is not there is Closed, and named", async () => {
  const error = await errorOf(all(new Client("http://127.0.0.1:9").turn("x")));
  assert.ok(error instanceof Closed && error.reason.startsWith("http://127.0.0.1:9 does not answer: "), error.message);
});

const REFUSALS = [
  [401, { error: "Unauthorized", message: "a token is needed" }, {}, { path: null, retryAfter: null }],
  [422, { error: "EntryError", message: "Entry 7 does not exist", path: "entry" }, {}, { path: "entry", retryAfter: null }],
  [429, { error: "TooManyRequests", message: "too often" }, { "Retry-After": "100" }, { path: null, retryAfter: 100 }],
  [503, { error: "ShuttingDown", message: "bye" }, { "Retry-After": "0" }, { path: null, retryAfter: 0 }],
];
for (const [status, body, headers, facts] of REFUSALS) {
  test(`${status} is Refused, with what the server says`, async () => {
    await serving(answering(status, JSON.stringify(body), headers), async (url) => {
      const { error, message } = body;
      const client = new Client(url);
      for (const ask of [() => all(client.turn("x")), () => client.flow(), () => client.interrupt()]) {
        const refused = await errorOf(ask());
        assert.ok(refused instanceof Refused && refused instanceof EzflowError);
        const { path, retryAfter } = refused;
        assert.deepEqual({ status: refused.status, error: refused.error, path, retryAfter }, { status, error, ...facts });
        assert.equal(refused.message, message);
      }
    });
  });
}

test("a refusal by something else than the server is told by its status", async () => {
  for (const body of ["<html>Bad gateway</html>", "", "null", '"x"']) {
    const soon = new Date(Date.now() + 60_000).toUTCString();
    await serving(answering(502, body, { "Retry-After": soon }), async (url) => {
      const refused = await errorOf(all(new Client(url).turn("x")));
      assert.deepEqual([refused.status, refused.error, refused.path], [502, "HTTP 502", null]);
      assert.ok(refused.retryAfter > 50 && refused.retryAfter <= 60);
      assert.ok(refused.message);
    });
  }
});

test("EZPipe's routes say what is wrong under another name", async () => {
  await serving(answering(422, '{"detail":"of: no"}'), async (url) => {
    assert.equal((await errorOf(new Client(url).schema("x"))).message, "of: no");
  });
});

test("questions are answered", async () => {
  const asked = [];
  const answer = (request, response, body) => {
    asked.push(`${request.method} ${request.url} ${body}`);
    response.writeHead(request.url === "/health/ready" ? 503 : 200).end('{"turn":3,"status":"unready"}');
  };
  await serving({ answer }, async (url) => {
    // As Python's and C#'s clients write it: a proxy goes by these bytes.
    const client = new Client(url, { user: "(ann)'s!" });
    assert.equal(await client.interrupt(), 3);
    assert.equal((await client.ready()).status, "unready");
    await client.flow();
    await client.schema();
    await client.schema("events");
  });
  const gets = ["/health/ready", "/flow", "/schema?of=turns", "/schema?of=events"].map((path) => `GET ${path} `);
  assert.deepEqual(asked, [`POST /interrupt?user=%28ann%29%27s%21 {"user":"(ann)'s!"}`, ...gets]);
});

test("what is not JSON is an error that names the route", async () => {
  await serving(answering(200, "<html>"), async (url) => {
    assert.match((await errorOf(new Client(url).flow())).message, /\/flow did not answer in JSON/);
  });
});

/** A turn that says something and does not end; `gone` resolves when its client is. */
function endless() {
  let leave;
  const gone = new Promise((resolve) => (leave = resolve));
  const answer = (_, response) => {
    once(response, "close").then(leave);
    response.writeHead(200).write(line(STARTED));
  };
  return { answer, gone };
}

test("leaving the loop ends the request", async () => {
  const { answer, gone } = endless();
  await serving({ answer }, async (url) => {
    for await (const event of new Client(url).turn("x")) {
      assert.equal(event.type, "turn.started");
      break;
    }
    await gone;
  });
});

test("aborting ends the request, and raises the reason", async () => {
  const { answer, gone } = endless();
  await serving({ answer }, async (url) => {
    const aborting = new AbortController();
    const events = new Client(url).turn("x", { signal: aborting.signal });
    await events.next();
    const next = errorOf(events.next());
    aborting.abort();
    assert.equal((await next).name, "AbortError");
    await gone;
    assert.equal((await errorOf(all(new Client(url).turn("x", { signal: aborting.signal })))).name, "AbortError");
  });
});

test("aborting ends a request that is not answered yet", async () => {
  let came;
  const asked = new Promise((resolve) => (came = resolve));
  await serving({ answer: (_, response) => came({ gone: once(response, "close") }) }, async (url) => {
    const aborting = new AbortController();
    const error = errorOf(new Client(url).turn("x", { signal: aborting.signal }).next());
    const { gone } = await asked;
    aborting.abort(new Error("enough"));
    assert.equal((await error).message, "enough");
    await gone;
  });
});
