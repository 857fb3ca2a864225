// Run in a page of the example's folder by test_javascript_in_browser.py: gives what is to be looked at.
({
  /** Renders a tone that comes in pieces: how far it is from the tone in one piece, as a part of full scale. */
  async play(rate_hz) {
    const { Player } = await import("/sound.js");
    const context = new OfflineAudioContext(1, 48_000, 48_000);
    const player = new Player({ context });
    const radians = (2 * Math.PI * 200) / rate_hz;
    let samples = 0;
    for (const seconds of [0.1, 0.0411, 0.002, 0.2, 0.1033]) {
      const pcm = Int16Array.from({ length: seconds * rate_hz }, () => 16_384 * Math.sin(radians * samples++));
      player.play({ type: "audio", seq: 0, pcm, rate_hz, channels: 1 });
    }
    const heard = (await context.startRendering()).getChannelData(0);
    const begin = Math.ceil(0.03 * 48_000);
    const length = Math.floor((samples / rate_hz) * 48_000);
    const ring = Math.ceil((25 / Math.min(rate_hz, 48_000)) * 48_000); // of the filter, where the sound begins and ends
    let worst = 0;
    for (let n = ring; n < length - ring; n++) {
      const ideal = 0.5 * Math.sin((2 * Math.PI * 200 * n) / 48_000);
      worst = Math.max(worst, Math.abs(heard[begin + n] - ideal));
    }
    const silence = [...heard.subarray(0, begin - ring), ...heard.subarray(begin + length + ring)];
    return { worst, silence: Math.max(...silence.map(Math.abs)) };
  },

  /** Plays three sounds on the device, stops in the third: what is told as heard. */
  async hear() {
    const { Player } = await import("/sound.js");
    const told = [];
    const player = new Player({
      played: ({ seq }, ms) => {
        told.push([seq, ms]);
        if (seq === 2) player.stop();
      },
    });
    const sound = (seq, seconds) => ({ seq, pcm: new Int16Array(24_000 * seconds), rate_hz: 24_000, channels: 1 });
    player.play(sound(0, 0.3));
    player.play(sound(1, 0.1));
    player.play(sound(2, 30));
    await player.idle;
    await player.close();
    return told;
  },

  /** Listens until so many frames have come. */
  async listen(count) {
    const { Microphone } = await import("/sound.js");
    const microphone = new Microphone();
    const frames = [];
    await new Promise((resolve, reject) => {
      microphone.start((frame) => frames.push(frame) === count && resolve()).catch(reject);
    });
    const { level } = microphone;
    microphone.stop();
    const samples = frames.slice(count / 2).flatMap((frame) => [...frame]);
    const part = (turn) => samples.reduce((sum, sample, n) => sum + sample * turn((2 * Math.PI * 1_000 * n) / 16_000), 0);
    const tone = Math.hypot(part(Math.cos), part(Math.sin)) * Math.SQRT2 / samples.length;
    const all = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
    return { lengths: [...new Set(frames.map((frame) => frame.length))], level, tone, all };
  },
})
