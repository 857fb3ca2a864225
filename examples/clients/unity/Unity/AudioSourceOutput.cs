using System;
using System.Collections.Generic;
using UnityEngine;

namespace Ezflow.Unity
{
    /// <summary>Plays sounds through two AudioSources in turn, each scheduled to begin where the one before ends.</summary>
    public sealed class AudioSourceOutput : MonoBehaviour, ISoundOutput
    {
        // PlayScheduled wants to know a little ahead; this is also the only delay before the first sound.
        private const double LeadSeconds = 0.03;
        private const int Sources = 2;

        [Tooltip("Two AudioSources with the same settings (mixer group, 3D). Those that are missing are added, flat ones.")]
        [SerializeField] private List<AudioSource> sources = new List<AudioSource>();

        private readonly Queue<SoundEvent> waiting = new Queue<SoundEvent>();
        private readonly List<Playing> playing = new List<Playing>();
        private double waitingSeconds;
        private double freeAt;
        private int next;

        public event Action<SoundEvent, double> Played;

        public double QueuedSeconds
        {
            get
            {
                var left = playing.Count == 0 ? 0 : freeAt - Math.Max(AudioSettings.dspTime, playing[0].BeginAt);
                return waitingSeconds + Math.Max(0, left);
            }
        }

        public void Play(SoundEvent sound)
        {
            if (sound.Samples == 0)
                return;
            waiting.Enqueue(sound);
            waitingSeconds += sound.DurationMs / 1000;
            Schedule();
        }

        public void Stop()
        {
            waiting.Clear();
            waitingSeconds = 0;
            Report();
            foreach (var each in playing)
                each.Release();
            playing.Clear();
            freeAt = 0;
        }

        private void Awake()
        {
            while (sources.Count < Sources)
                sources.Add(gameObject.AddComponent<AudioSource>());
        }

        private void Update()
        {
            Report();
            Schedule();
        }

        private void OnDestroy()
        {
            Stop();
        }

        /// <summary>Give each free source the sound that comes next.</summary>
        private void Schedule()
        {
            while (waiting.Count > 0 && playing.Count < Sources)
            {
                var sound = waiting.Dequeue();
                waitingSeconds = waiting.Count == 0 ? 0 : waitingSeconds - sound.DurationMs / 1000;
                var each = new Playing(sound, sources[next], Math.Max(freeAt, AudioSettings.dspTime + LeadSeconds));
                next = (next + 1) % Sources;
                freeAt = each.EndAt;
                playing.Add(each);
            }
        }

        /// <summary>Tell how far each is, and let go of what was heard whole.</summary>
        private void Report()
        {
            var now = AudioSettings.dspTime;
            while (playing.Count > 0 && playing[0].BeginAt <= now)
            {
                var first = playing[0];
                var isHeard = now >= first.EndAt;
                if (isHeard)
                {
                    playing.RemoveAt(0);
                    first.Release();
                }
                Played?.Invoke(first.Sound, isHeard ? first.Sound.DurationMs : 1000 * (now - first.BeginAt));
                if (!isHeard)
                    return;
            }
        }

        private sealed class Playing
        {
            internal readonly SoundEvent Sound;
            internal readonly double BeginAt;
            internal readonly double EndAt;
            private readonly AudioSource source;
            private readonly AudioClip clip;

            internal Playing(SoundEvent sound, AudioSource source, double beginAt)
            {
                Sound = sound;
                BeginAt = beginAt;
                EndAt = beginAt + sound.DurationMs / 1000;
                this.source = source;
                clip = AudioClip.Create("ezflow", sound.Samples, sound.Channels, sound.RateHz, false);
                clip.SetData(sound.ToFloats(), 0);
                source.clip = clip;
                source.loop = false;
                source.PlayScheduled(beginAt);
            }

            internal void Release()
            {
                source.Stop();
                source.clip = null;
                Destroy(clip); // Unity collects no clips by itself
            }
        }
    }
}
