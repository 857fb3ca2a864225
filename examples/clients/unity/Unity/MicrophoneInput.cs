using System;
using UnityEngine;

namespace Ezflow.Unity
{
    /// <summary>Unity's Microphone as PCM16 mono, at 16 kHz where the device can do that, else as near as it can.</summary>
    /// <remarks>It records while the component is enabled. The platform's permission must have been given before.</remarks>
    public sealed class MicrophoneInput : MonoBehaviour, ISoundInput
    {
        // What is not read within this time is overwritten: longer than any frame of a game should take.
        private const int RingSeconds = 2;

        [Tooltip("Empty: the system's own choice.")]
        [SerializeField] private string device = "";

        private AudioClip ring;
        private int read;

        public SoundFormat Format
        {
            get { return new SoundFormat(Rate(), 1); }
        }

        private string Device
        {
            get { return string.IsNullOrEmpty(device) ? null : device; }
        }

        public byte[] Read()
        {
            if (ring == null)
                return new byte[0];
            var written = Microphone.GetPosition(Device);
            var count = (written - read + ring.samples) % ring.samples;
            if (count == 0)
                return new byte[0];
            var samples = new float[count * ring.channels];
            ring.GetData(samples, read); // goes on at the beginning when it reaches the end
            read = written;
            return Mono(samples, ring.channels);
        }

        private void OnEnable()
        {
            read = 0;
            ring = Microphone.devices.Length == 0 ? null : Microphone.Start(Device, true, RingSeconds, Rate());
            if (ring == null)
                Debug.LogWarning("ezflow: there is no microphone, or no permission to use it.");
        }

        private void OnDisable()
        {
            if (ring == null)
                return;
            Microphone.End(Device);
            Destroy(ring);
            ring = null;
        }

        private int Rate()
        {
            int least;
            int most;
            Microphone.GetDeviceCaps(Device, out least, out most);
            var speech = SoundFormat.Speech.RateHz;
            return most == 0 ? speech : Mathf.Clamp(speech, least, most); // 0: any
        }

        private static byte[] Mono(float[] samples, int channels)
        {
            var pcm = new byte[samples.Length / channels * 2];
            for (var i = 0; i < pcm.Length / 2; i++)
            {
                var sum = 0f;
                for (var channel = 0; channel < channels; channel++)
                    sum += samples[i * channels + channel];
                var level = Math.Max(-32768, Math.Min(32767, (int)(32768 * sum / channels)));
                pcm[2 * i] = (byte)level;
                pcm[2 * i + 1] = (byte)(level >> 8);
            }
            return pcm;
        }
    }
}
