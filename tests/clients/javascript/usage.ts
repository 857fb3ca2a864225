// What the types must allow. Checked, not run.
import { Client, Closed, EzflowError, Live, Refused, Socket, wav } from "ezflow/ezflow.js";
import type { Declared, Event, FlowDescription, Sound } from "ezflow/ezflow.js";
import { Microphone, Player } from "ezflow/sound.js";

const client = new Client("http://127.0.0.1:3421/live", { user: "ann", token: "t", fetch, WebSocket });
new Client();
new Client(new URL("http://127.0.0.1:3421"));

export function words(event: Event): string {
  switch (event.type) {
    case "text":
      return event.text;
    case "transcript":
      return event.final ? event.text : "";
    case "audio":
      return `${event.pcm.length / event.channels / event.rate_hz} s`;
    case "progress":
      return event.data.message;
    case "json":
      return JSON.stringify(event.data);
    case "stage":
      return `${event.stage} ${event.state === "blocked"} ${event.run ?? 0}`;
    case "error":
      return event.turn === undefined ? `${event.path ?? ""} ${event.message}` : `${event.stage} in turn ${event.turn}`;
    case "interrupted":
      return `${event.run ?? event.turn}`;
    case "turn.started":
      return `${event.t}`;
    case "turn.ended":
      return event.reason;
    default: {
      const nothing: never = event;
      return nothing;
    }
  }
}

export async function turns(signal: AbortSignal): Promise<Uint8Array> {
  const pieces: Int16Array[] = [];
  const options = { LLM: { temperature: 0.5 } };
  for await (const event of client.turn("hello", { entry: "llm", options, timeline: true, signal })) {
    if (event.type === "audio") pieces.push(event.pcm);
  }
  for (const input of [new Uint8Array(2), new ArrayBuffer(2), new Int16Array(1), new Blob([]), { a: [1, null] }, 5]) {
    for await (const event of client.turn(input, { entry: 0 })) words(event);
  }
  const ended: number | null = await client.interrupt();
  const flow: FlowDescription = await client.flow({ signal });
  const key: string | null = flow.stages[0]!.options;
  const { status, failing } = await client.ready();
  return wav(pieces, 24_000, ended ?? key?.length ?? (status === "unready" ? Object.keys(failing ?? {}).length : 1));
}

export async function talk(): Promise<void> {
  const live: Live = await client.live({ format: { rate_hz: 16_000 }, timeline: true });
  const player = new Player({ played: (event: Sound, ms: number) => live.played(event, ms) });
  const microphone = new Microphone({ constraints: { deviceId: "x" }, ended: () => live.end() });
  const heard: boolean = await microphone.start((frame) => live.send(frame));
  live.send("words", { entry: "llm" });
  for await (const event of live) {
    if (event.type === "audio") player.play(event);
    const mood = event as Event | Declared<"mood", { glad: boolean }>;
    if (mood.type === "mood" && mood.data.glad && heard) await player.resume();
  }
  await player.idle;
  const socket: Socket = await client.connect();
  const second = socket.start();
  const { done, value } = await second.next();
  if (!done) words(value);
  const closed: Closed = await socket.closed;
  const milliseconds: number = await socket.ping();
  console.log(closed.code + milliseconds, microphone.level, player.context?.sampleRate);
}

export function tell(error: unknown): string {
  if (error instanceof Refused) return `${error.status} ${error.path} ${(error.retryAfter ?? 0) + 1}`;
  if (error instanceof Closed) return error.reason;
  return error instanceof EzflowError ? error.message : "";
}
