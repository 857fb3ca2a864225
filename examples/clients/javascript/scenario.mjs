// What a client can do, step by step, a line of JSON for each:
//
//     ezflow serve examples/voice.py                        in one terminal
//     node scenario.mjs http://127.0.0.1:3421 question.wav  in another (Node 20: node --experimental-websocket …)
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, Refused } from "./ezflow.js";

const QUESTION = "How many legs does a spider have?";
const LONG = "Count from one to fifty, slowly, in words.";
const FRAME_S = 0.032;
const PAUSE_S = 1;

const [url, path] = process.argv.slice(2);
const file = await readFile(path);
const as = (user, flow = "") => new Client(url + flow, { user });

await report("text", as("js-text").turn(QUESTION, { entry: "local_llm" }));
await report("audio", as("js-audio").turn(file));
await speak();
await interrupt();
await report("entry", as("js-entry").turn("This is said as it is.", { entry: "sentences" }));
await fail();

/** Puts together what a turn's events say. */
async function summary(events, onEvent = () => {}) {
  const told = { text: "", sound_s: 0, rate_hz: 0, reason: null };
  for await (const event of events) {
    if (event.type === "text") told.text += event.text;
    if (event.type === "transcript" && event.final) told.transcript = event.text;
    if (event.type === "audio") {
      told.sound_s += event.samples / event.rate_hz;
      told.rate_hz = event.rate_hz;
    }
    if (event.type === "turn.ended") told.reason = event.reason;
    onEvent(event);
  }
  return told;
}

async function report(step, events, onEvent) {
  print({ step, ...(await summary(events, onEvent)) });
}

/** A question, spoken at the pace of speech into a turn that listens. */
async function speak() {
  const { samples, rate_hz, channels } = readWav(file);
  const live = await as("js-live", "/live").live({ format: { rate_hz, channels } });
  const frame = Math.round(rate_hz * FRAME_S) * channels;
  const silence = new Int16Array(Math.ceil(PAUSE_S / FRAME_S) * frame);
  const sound = Int16Array.from([...samples, ...silence]);
  const begun = performance.now();
  const speaking = (async () => {
    for (let place = 0; place < sound.length; place += frame) {
      await sleep(Math.max(0, begun + (1000 * place) / channels / rate_hz - performance.now()));
      live.send(sound.subarray(place, place + frame));
    }
  })();
  await report("live", live, (event) => {
    if (event.type === "audio") speaking.then(() => live.end());
  });
}

/** A long answer is cut off by its listener, who then asks something else. */
async function interrupt() {
  const live = await as("js-interrupt", "/live").live();
  const told = { text: "", interrupted: false, after: 0, next: "", reason: null };
  let run = null;
  live.send(LONG, { entry: "local_llm" });
  for await (const event of live) {
    if (event.type === "text" && run === null) {
      run = event.run;
      live.interrupt();
    }
    if (event.type === "interrupted") {
      told.interrupted = true;
      live.send(QUESTION, { entry: "local_llm" });
      live.end();
    }
    if (event.type === "text") told[event.run === run ? "text" : "next"] += event.text;
    if (["text", "audio"].includes(event.type) && event.run === run && told.interrupted) told.after += 1;
    if (event.type === "turn.ended") told.reason = event.reason;
  }
  print({ step: "interrupt", ...told });
}

async function fail() {
  try {
    await summary(as("js-error").turn("hello", { entry: "nowhere" }));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    print({ step: "error", error: error.error, message: error.message });
  }
}

function print(line) {
  console.log(JSON.stringify(line));
}

/** The samples of a WAV of PCM16. */
function readWav(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let format = null;
  for (let place = 12; place < bytes.length; place += 8 + view.getUint32(place + 4, true)) {
    const chunk = bytes.toString("latin1", place, place + 4);
    if (chunk === "fmt ") format = { channels: view.getUint16(place + 10, true), rate_hz: view.getUint32(place + 12, true) };
    if (chunk === "data") {
      const data = bytes.subarray(place + 8, place + 8 + view.getUint32(place + 4, true));
      return { ...format, samples: new Int16Array(Uint8Array.from(data).buffer) };
    }
  }
  throw new Error("this WAV has no samples");
}
