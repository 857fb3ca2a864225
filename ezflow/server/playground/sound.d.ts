/** Types of sound.js: a browser's loudspeaker and microphone. */

import type { Sound } from "./ezflow.js";

export type Played = (event: Sound, ms: number) => void;

/** Plays audio events one after the other without gaps, each at its own rate. */
export class Player {
  /** `played` is told how much of an event was heard: about four times a second, at its end, and when it is stopped. */
  constructor(options?: { played?: Played; context?: AudioContext | null });
  played: Played;
  /** Made with the first sound, or by `resume`, if none was given. */
  readonly context: AudioContext | null;
  /** Is there sound that is not yet heard? */
  readonly playing: boolean;
  /** Resolves when all is heard, or stopped. */
  readonly idle: Promise<void>;
  /** Does the browser hold the sound back until there is a click or a key? It then goes on by itself. */
  readonly suspended: boolean;
  /** Lets sound be heard; call it in the handler of a click or a key. Resolves when the browser allows it. */
  resume(): Promise<void>;
  /** Plays an audio event after those before it. */
  play(event: Sound): void;
  /** Silences what is heard within some milliseconds, and forgets the rest. */
  stop(): void;
  /** Stops, and gives the loudspeaker back. */
  close(): Promise<void>;
}

/** Gives what the microphone hears as frames of 32 ms, 16 kHz mono PCM16, whatever the device's own rate is. */
export class Microphone {
  static readonly RATE_HZ: 16000;
  /** `ended` is called when the device goes away. */
  constructor(options?: { constraints?: MediaTrackConstraints; worklet?: string | URL; ended?: () => void });
  ended: () => void;
  /** Is it heard, or being asked for? */
  readonly running: boolean;
  /** How loud the last frame was: 0 is silence, 1 a tone as loud as can be. */
  readonly level: number;
  /**
   * Asks for the microphone, if need be, and calls `onFrame` for each frame until `stop`. True when it is heard; false
   * if it was stopped before that. Raises: DOMException (`NotAllowedError`, `NotFoundError` …).
   */
  start(onFrame: (frame: Int16Array) => void): Promise<boolean>;
  /** Gives the microphone back. */
  stop(): void;
}
