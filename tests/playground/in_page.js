// Runs in the page before its own scripts: records what it sends to the speakers, listens to what its microphone gives,
// and counts the frames it asks for. `window.observed` tells.
(() => {
  const LOUD = 0.003; // of full scale; dither and the noise of a codec are far below it
  const EVERY_MS = 20;
  const SILENT_MS = 300; // longer than the pauses between words
  const RATE_HZ = 16000;

  const { connect, disconnect } = AudioNode.prototype;

  // When a node was last loud, on the clock of performance.now().
  class Ear {
    constructor(node) {
      this.lastLoud = null;
      const analyser = new AnalyserNode(node.context, { fftSize: 2048 });
      const samples = new Float32Array(analyser.fftSize);
      connect.call(node, analyser);
      setInterval(() => {
        if (node.context.state !== "running") return; // the analyser would tell of the moment before
        analyser.getFloatTimeDomainData(samples);
        if (samples.some((sample) => Math.abs(sample) > LOUD)) this.lastLoud = performance.now();
      }, EVERY_MS);
    }

    get silent() {
      return this.lastLoud === null || performance.now() - this.lastLoud > SILENT_MS;
    }
  }

  // Everything that one AudioContext has sent to the speakers.
  class Recording {
    constructor(context) {
      this.input = new GainNode(context);
      this.ear = new Ear(this.input);
      const tape = new MediaStreamAudioDestinationNode(context);
      connect.call(this.input, tape);
      this.pieces = [];
      this.recorder = new MediaRecorder(tape.stream, { audioBitsPerSecond: 128000 });
      this.recorder.ondataavailable = (event) => this.pieces.push(event.data);
      this.recorder.start();
    }

    async samples() {
      const flushed = new Promise((resolve) => this.recorder.addEventListener("dataavailable", resolve, { once: true }));
      this.recorder.requestData();
      await flushed;
      const encoded = await new Blob(this.pieces).arrayBuffer();
      if (encoded.byteLength === 0) return new Float32Array(0);
      const decoded = await new OfflineAudioContext(1, 1, RATE_HZ).decodeAudioData(encoded);
      return decoded.getChannelData(0);
    }
  }

  const recordings = new Map();
  function recordingOf(context) {
    if (!recordings.has(context)) recordings.set(context, new Recording(context));
    return recordings.get(context);
  }
  const isSpeaker = (target) => target instanceof AudioDestinationNode && target.context instanceof AudioContext;

  AudioNode.prototype.connect = function (target, ...rest) {
    if (isSpeaker(target)) connect.call(this, recordingOf(target.context).input);
    return connect.call(this, target, ...rest);
  };
  AudioNode.prototype.disconnect = function (target, ...rest) {
    if (isSpeaker(target)) disconnect.call(this, recordingOf(target.context).input);
    return target === undefined ? disconnect.call(this) : disconnect.call(this, target, ...rest);
  };

  // A microphone that hears the browser's, and what a test says into it meanwhile.
  class Microphone {
    constructor(device) {
      this.since = performance.now();
      this.context = new AudioContext();
      this.input = new GainNode(this.context);
      this.output = new MediaStreamAudioDestinationNode(this.context);
      connect.call(new MediaStreamAudioSourceNode(this.context, { mediaStream: device }), this.input);
      connect.call(this.input, this.output);
      this.ear = new Ear(this.input);
      this.stream = this.output.stream;
    }

    say(samples) {
      const buffer = new AudioBuffer({ length: samples.length, sampleRate: RATE_HZ });
      buffer.copyToChannel(samples, 0);
      const source = new AudioBufferSourceNode(this.context, { buffer });
      connect.call(source, this.input);
      source.start();
    }
  }

  const microphones = [];
  const { getUserMedia } = MediaDevices.prototype;
  MediaDevices.prototype.getUserMedia = async function (...wishes) {
    const microphone = new Microphone(await getUserMedia.apply(this, wishes));
    microphones.push(microphone);
    return microphone.stream;
  };

  const partials = new Set(); // each soon gives way to the next
  new MutationObserver(() => {
    for (const part of document.querySelectorAll("[data-part=partial]")) partials.add(part.textContent);
  }).observe(document, { subtree: true, childList: true, characterData: true });

  let frames = 0;
  const { requestAnimationFrame } = window;
  window.requestAnimationFrame = (draw) => {
    frames += 1;
    return requestAnimationFrame.call(window, draw);
  };

  const outputs = () => [...recordings.values()].map((recording) => recording.ear);

  let controls = [];

  const observed = {
    // Resolves when a question below has this answer. (Playwright's own way to wait compiles a text in the page, which
    // the page's policy forbids.)
    until: (question, details, answer, withinMs) =>
      new Promise((resolve, reject) => {
        const end = performance.now() + withinMs;
        const asking = setInterval(() => {
          const done = observed[question](...details) === answer;
          if (!done && performance.now() < end) return;
          clearInterval(asking);
          if (done) resolve();
          else reject(new Error(`${question}(${details}) was not ${answer} within ${withinMs / 1000} s`));
        }, EVERY_MS);
      }),

    isPlaying: () => outputs().some((ear) => !ear.silent),
    now: () => performance.now(),
    lastPlayed: () => Math.max(...outputs().map((ear) => ear.lastLoud ?? -Infinity)),
    hasPlayedSince: (time) => observed.lastPlayed() > time + 2 * EVERY_MS, // what was heard then is told a little later

    // PCM16 at 16 kHz, base64: the output of the context that was heard, from when it was connected.
    played: async () => {
      const heard = [...recordings.values()].find((recording) => recording.ear.lastLoud !== null);
      if (heard === undefined) return "";
      const pcm = Int16Array.from(await heard.samples(), (sample) => Math.max(-1, Math.min(1, sample)) * 32767);
      const bytes = new Uint8Array(pcm.buffer);
      let text = "";
      for (let place = 0; place < bytes.length; place += 32768) {
        text += String.fromCharCode(...bytes.subarray(place, place + 32768));
      }
      return btoa(text);
    },

    // Say this into the microphone: PCM16 at 16 kHz, base64.
    say: (pcm16) => {
      const bytes = Uint8Array.from(atob(pcm16), (char) => char.charCodeAt(0));
      microphones.at(-1).say(Float32Array.from(new Int16Array(bytes.buffer), (sample) => sample / 32768));
    },
    // Is the microphone open for longer than a click takes?
    hasRecorded: () => performance.now() - microphones.at(-1).since > 1000,
    // Has what was said into the microphone come to its end?
    hasSpoken: () => microphones.some(({ ear }) => ear.lastLoud !== null && ear.silent),
    microphonesOn: () =>
      microphones.flatMap(({ stream }) => stream.getTracks()).filter((track) => track.readyState === "live").length,

    partials: () => [...partials],

    // How many frames the page asks for while the browser draws this many.
    framesDuring: async (count) => {
      const before = frames;
      for (let drawn = 0; drawn < count; drawn += 1) {
        await new Promise((resolve) => requestAnimationFrame.call(window, resolve));
      }
      return frames - before;
    },
    isStill: () => document.getAnimations().every((animation) => animation.playState !== "running"),

    // How many pixels of the page stand out beyond the screen's right edge.
    overhang: () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    // The names of all that can be reached by the Tab key; then the place in that list of what has the focus.
    controls: () => {
      const all = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]");
      controls = [...all].filter((each) => each.tabIndex >= 0 && !each.disabled && each.checkVisibility());
      return controls.map((each) => each.ariaLabel ?? each.labels?.[0]?.textContent.trim() ?? each.textContent.trim());
    },
    focused: () => controls.indexOf(document.activeElement),
  };
  window.observed = observed;
})();
