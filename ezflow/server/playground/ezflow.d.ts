/** Types of ezflow.js: a client of an ezflow server, for browsers and Node. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Bytes = ArrayBuffer | ArrayBufferView;
/** A stage, by its index or its name. */
export type Entry = number | string;
/** Options by the key of their stage: `{ LLM: { temperature: 0.5 } }`. */
export type Options = Record<string, Record<string, unknown>>;
/** What frames of sound hold: PCM16, little-endian, channels interleaved. */
export interface Format {
  rate_hz?: number;
  channels?: number;
}

interface Told {
  /** Counts from 1 in a session. */
  turn: number;
  /** Counts a turn's events from 0. */
  seq: number;
  /** Seconds since the turn began. */
  t: number;
}
interface OfRun {
  /** The run inside a `Latest`, which is interrupted as one. */
  run?: number;
}
interface OfStage extends Told, OfRun {
  stage: string;
}

export interface TurnStarted extends Told {
  type: "turn.started";
}
export interface Text extends OfStage {
  type: "text";
  text: string;
}
export interface Transcript extends OfStage {
  type: "transcript";
  text: string;
  final: boolean;
}
export interface Sound extends OfStage {
  type: "audio";
  rate_hz: number;
  channels: number;
  /** Frames: the length of `pcm` by `channels`. */
  samples: number;
  /** The samples, channels interleaved. */
  pcm: Int16Array;
}
/** An item that is neither text nor sound. */
export interface JsonItem extends OfStage {
  type: "json";
  data: Json;
}
export interface Progress extends OfStage {
  type: "progress";
  data: { message: string };
}
export type StageState = "waiting" | "working" | "blocked" | "first" | "done" | "failed";
/** What a stage is doing, in a turn with a timeline. */
export interface StageEvent extends OfStage {
  type: "stage";
  state: StageState;
}
/** A stage failed. */
export interface Fault extends Told, OfRun {
  type: "error";
  stage?: string;
  error: string;
  message: string;
  path?: undefined;
}
/** What was sent into a live turn does not fit; the turn goes on. */
export interface Complaint {
  type: "error";
  turn?: undefined;
  stage?: undefined;
  error: string;
  message: string;
  path?: string;
}
/** A run is over: drop what of it is not yet played. Without `seq`: nothing was at work. */
export interface Interrupted extends OfRun {
  type: "interrupted";
  turn: number;
  seq?: number;
  t?: number;
}
export type Reason = "done" | "interrupted" | "error" | "timeout";
export interface TurnEnded extends Told {
  type: "turn.ended";
  reason: Reason;
}

/** What a client is told. */
export type Event =
  | TurnStarted
  | Text
  | Transcript
  | Sound
  | JsonItem
  | Progress
  | StageEvent
  | Fault
  | Complaint
  | Interrupted
  | TurnEnded;

/**
 * An event that a module of the flow declares: its class's name, its fields. Such events come among the others:
 * `const mood = event as Event | Declared<"mood", { glad: boolean }>`.
 */
export interface Declared<Type extends string, Data> extends OfStage {
  type: Type;
  data: Data;
}

export interface StageDescription {
  index: number;
  name: string;
  in: string;
  out: string;
  takes: "audio" | "text" | "json";
  shown: boolean;
  /** The key under which options are sent; null if it has none. */
  options: string | null;
  doc: string;
}
export interface FlowDescription {
  /** "" if it has none. */
  name: string;
  /** All flows of the server; the first is at its root. */
  flows: string[];
  /** Answers utterance by utterance, and may be spoken over. */
  live: boolean;
  stages: StageDescription[];
  edges: { from: string; to: string; type: string }[];
  mermaid: string;
}
export interface Readiness {
  status: "ready" | "unready" | "stopping";
  stages?: string[];
  /** What fails, by the stage's name. */
  failing?: Record<string, string>;
}

export interface Abortable {
  signal?: AbortSignal;
}
export interface TurnOptions {
  /** The stage that takes the input; the first by default. */
  entry?: Entry;
  options?: Options;
  /** Also tell what the stages are doing. */
  timeline?: boolean;
}
export interface LiveOptions extends TurnOptions {
  /** Of the frames of sound that are sent; 16 kHz mono by default. */
  format?: Format;
}
/** The part of the browser's WebSocket that is used: that of the package `ws` fits too. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  addEventListener(type: string, listener: (event: any) => void): void;
  send(data: any): void;
  close(code?: number, reason?: string): void;
}
export interface ClientOptions {
  /** Whose turns they are: one at a time, one history. A name of its own for each client by default. */
  user?: string;
  token?: string;
  /** In place of the global ones. */
  WebSocket?: new (url: string, protocols: string[]) => WebSocketLike;
  fetch?: typeof fetch;
}

/** What every error of this client is. */
export class EzflowError extends Error {}

/** The server does not do what it was asked for. */
export class Refused extends EzflowError {
  constructor(facts: Partial<Pick<Refused, "status" | "error" | "message" | "path" | "retryAfter">>);
  /** The HTTP status; null over a WebSocket. */
  readonly status: number | null;
  /** The kind: `InputError`, `EntryError`, `Unauthorized`, `TooManyRequests` … */
  readonly error: string;
  /** Where in the request: `options.LLM.temperature`. */
  readonly path: string | null;
  /** After how many seconds it may be asked for again. */
  readonly retryAfter: number | null;
}

/** The connection ended before the turn did. */
export class Closed extends EzflowError {
  constructor(code: number, reason: string, options?: ErrorOptions);
  /** The WebSocket's closing code: 1001 shutdown, 1008 not allowed, 1013 full … ; 1006 where a connection broke. */
  readonly code: number;
  readonly reason: string;
}

/** One user of a server, or of one of its flows. */
export class Client {
  /** The URL may name a flow: `http://127.0.0.1:3421/live`. In a browser it is the page's origin by default. */
  constructor(url?: string | URL, options?: ClientOptions);
  readonly url: string;
  readonly user: string;
  /**
   * One item through the flow, its events as they come; bytes and blobs are a WAV, or PCM16 at 16 kHz. It is sent when
   * the first event is awaited; leaving the loop, or aborting, ends the turn. Raises: Refused; Closed; the signal's
   * reason.
   */
  turn(input: Json | Bytes | Blob, options?: TurnOptions & Abortable): AsyncGenerator<Event, void, undefined>;
  /** Ends this user's turn: its number when every stage has left, null if there was none. Raises: Refused; Closed. */
  interrupt(options?: Abortable): Promise<number | null>;
  flow(options?: Abortable): Promise<FlowDescription>;
  /** JSON Schema of a request or of the events. */
  schema(of?: "turns" | "events", options?: Abortable): Promise<{ [key: string]: any }>;
  ready(options?: Abortable): Promise<Readiness>;
  /** Resolves when the server is ready. Raises: Closed; the signal's reason. */
  connect(options?: Abortable): Promise<Socket>;
  /** A live turn on a WebSocket of its own, which is closed at the turn's end. */
  live(options?: LiveOptions & Abortable): Promise<Live>;
}

/** A WebSocket for live turns, one after the other. */
export class Socket {
  private constructor();
  /** The user's name, as the server has it. */
  readonly session: string;
  readonly flow: FlowDescription;
  /** Resolves when the socket is closed, by whomever; never rejects. */
  readonly closed: Promise<Closed>;
  /** Bytes that were sent, and that the network has not taken. */
  readonly buffered: number;
  /** Begins a live turn; one that still runs is ended first. Raises: Closed. */
  start(options?: LiveOptions): Live;
  /** How many milliseconds it is to the server and back. Raises: Closed. */
  ping(): Promise<number>;
  close(): Promise<void>;
}

/** A live turn: an iterator over its events, and what feeds it. */
export class Live implements AsyncIterableIterator<Event> {
  private constructor();
  /** Its number; null before `turn.started`. */
  readonly turn: number | null;
  /** Is nothing taken any more? */
  readonly over: boolean;
  readonly buffered: number;
  /**
   * Bytes are sound (PCM16 in the turn's format, or a whole WAV), anything else an item of text or JSON. False if the
   * turn is over. Raises: EzflowError after `end`.
   */
  send(data: Json | Bytes, options?: { entry?: Entry }): boolean;
  /** No more input: the turn runs out. */
  end(): void;
  /** Stops the running reply and goes on listening. */
  interrupt(): void;
  /** Reports that `ms` of an audio event were heard. */
  played(event: Sound, ms: number): void;
  /** Leaves the turn; resolves when it has ended. A `for await` that is left early does this. */
  close(): Promise<void>;
  [Symbol.asyncIterator](): this;
  next(): Promise<IteratorResult<Event, undefined>>;
  return(value?: unknown): Promise<IteratorResult<Event, undefined>>;
}

/** PCM16 as a WAV file: one piece of sound, or several in a row. */
export function wav(sound: Bytes | Bytes[], rate_hz: number, channels?: number): Uint8Array;
