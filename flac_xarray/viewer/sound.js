// A tile is a FLAC stream, so it can be heard: its samples as they are, as loud as they can be.

let context = null;
let playing = null;

/** Samples of a stream, {channels, bits, sampleRate}, as an AudioBuffer scaled to its peak. */
export function toAudioBuffer({ channels, sampleRate }) {
  let peak = 1;
  for (const samples of channels) for (const value of samples) if (Math.abs(value) > peak) peak = Math.abs(value);
  const buffer = new AudioBuffer({ length: channels[0].length, numberOfChannels: channels.length, sampleRate });
  channels.forEach((samples, k) => {
    const out = buffer.getChannelData(k);
    for (let i = 0; i < out.length; i++) out[i] = (0.7 * samples[i]) / peak;
  });
  return buffer;
}

export function play(sound, whenDone) {
  stop();
  context ??= new AudioContext();
  context.resume();
  const source = new AudioBufferSourceNode(context, { buffer: toAudioBuffer(sound) });
  source.connect(context.destination);
  source.onended = () => {
    if (playing === source) playing = null;
    whenDone();
  };
  source.start();
  playing = source;
  return source.buffer.duration;
}

export function stop() {
  playing?.stop();
  playing = null;
}
