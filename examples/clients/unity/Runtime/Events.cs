using System;

namespace Ezflow
{
    /// <summary>One thing that a turn tells its client.</summary>
    public abstract class TurnEvent
    {
        /// <summary>The protocol's word: text, transcript, audio, …</summary>
        public string Type { get; internal set; }

        /// <summary>Counts from 1 within a session; 0 where the server speaks of none.</summary>
        public int TurnId { get; internal set; }

        /// <summary>The run of a Latest, from 1; 0 outside of one.</summary>
        public int Run { get; internal set; }

        /// <summary>Counts from 0 within a turn: says what came before what, across the queues.</summary>
        public int Seq { get; internal set; }

        /// <summary>The name of the stage it is of; null if it is of none.</summary>
        public string Stage { get; internal set; }

        /// <summary>Seconds since the turn began.</summary>
        public double Seconds { get; internal set; }
    }

    public sealed class StartedEvent : TurnEvent
    {
    }

    /// <summary>A piece of an answer.</summary>
    public sealed class TextEvent : TurnEvent
    {
        public string Text { get; internal set; }
    }

    /// <summary>What was understood so far, or (Final) in the end.</summary>
    public sealed class TranscriptEvent : TurnEvent
    {
        public string Text { get; internal set; }

        public bool Final { get; internal set; }
    }

    /// <summary>A piece of sound: PCM16, little-endian, channels interleaved.</summary>
    public sealed class SoundEvent : TurnEvent
    {
        public byte[] Pcm { get; internal set; }

        public int RateHz { get; internal set; }

        public int Channels { get; internal set; }

        /// <summary>Samples of each channel.</summary>
        public int Samples
        {
            get { return Pcm.Length / (2 * Channels); }
        }

        public double DurationMs
        {
            get { return 1000.0 * Samples / RateHz; }
        }

        /// <summary>The samples from -1 to 1, channels interleaved, as Unity's AudioClip.SetData takes them.</summary>
        public float[] ToFloats()
        {
            var floats = new float[Pcm.Length / 2];
            for (var i = 0; i < floats.Length; i++)
                floats[i] = (short)(Pcm[2 * i] | Pcm[2 * i + 1] << 8) / 32768f;
            return floats;
        }
    }

    /// <summary>A stage failed, or (TurnId 0) the server could not take a frame.</summary>
    public sealed class ErrorEvent : TurnEvent
    {
        public string Error { get; internal set; }

        public string Message { get; internal set; }

        /// <summary>The field of the frame that does not fit; null otherwise.</summary>
        public string Path { get; internal set; }
    }

    /// <summary>What a stage is doing, where TurnRequest.Timeline is set: waiting, working, first, blocked, done, failed.</summary>
    public sealed class StageEvent : TurnEvent
    {
        public string State { get; internal set; }
    }

    /// <summary>Any other item or event of the flow's own, under its Type.</summary>
    public sealed class DataEvent : TurnEvent
    {
        /// <summary>As Json.Read gives it.</summary>
        public object Data { get; internal set; }
    }

    /// <summary>That run is over: no event of it follows. Run 0: nothing was at work.</summary>
    public sealed class InterruptedEvent : TurnEvent
    {
    }

    public sealed class EndedEvent : TurnEvent
    {
        /// <summary>done, interrupted, error or timeout.</summary>
        public string Reason { get; internal set; }
    }
}
