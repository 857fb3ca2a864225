using System;

namespace Ezflow
{
    /// <summary>Plays sounds, one after the other without gaps. Unity's is AudioSourceOutput.</summary>
    public interface ISoundOutput
    {
        /// <summary>Seconds of sound that were given and not yet heard.</summary>
        double QueuedSeconds { get; }

        /// <summary>
        /// How many milliseconds of a sound were heard so far: said when it begins, then as often as you like, when it
        /// has been heard whole (its DurationMs), and at Stop(). Raised on the thread that calls Conversation.Tick.
        /// </summary>
        event Action<SoundEvent, double> Played;

        /// <summary>Play this behind what was given before.</summary>
        void Play(SoundEvent sound);

        /// <summary>Be silent at once, and forget what was given.</summary>
        void Stop();
    }

    /// <summary>A microphone. Unity's is MicrophoneInput.</summary>
    public interface ISoundInput
    {
        /// <summary>What Read gives: best SoundFormat.Speech; other rates the server converts.</summary>
        SoundFormat Format { get; }

        /// <summary>What was recorded since it was last asked, PCM16; empty if nothing. Never waits.</summary>
        byte[] Read();
    }
}
