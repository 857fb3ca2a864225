using System;
using System.Collections.Generic;

namespace Ezflow.Harness
{
    /// <summary>A player whose time goes on only when it is told to.</summary>
    internal sealed class VirtualOutput : ISoundOutput
    {
        private readonly List<SoundEvent> held = new List<SoundEvent>();
        private double heardMs;

        public event Action<SoundEvent, double> Played;

        public double QueuedSeconds
        {
            get
            {
                var ms = -heardMs;
                foreach (var sound in held)
                    ms += sound.DurationMs;
                return Math.Max(0, ms / 1000);
            }
        }

        internal int Stops { get; private set; }

        public void Play(SoundEvent sound)
        {
            held.Add(sound);
        }

        public void Stop()
        {
            Stops++;
            if (held.Count > 0)
                Played?.Invoke(held[0], heardMs);
            held.Clear();
            heardMs = 0;
        }

        /// <summary>Hear what there is, for so long.</summary>
        internal void Hear(double ms)
        {
            while (held.Count > 0 && ms > 0)
            {
                var sound = held[0];
                var step = Math.Min(ms, sound.DurationMs - heardMs);
                ms -= step;
                heardMs += step;
                var isWhole = heardMs >= sound.DurationMs;
                Played?.Invoke(sound, isWhole ? sound.DurationMs : heardMs);
                if (!isWhole)
                    return;
                held.RemoveAt(0);
                heardMs = 0;
            }
        }
    }
}
