using System;
using System.Collections.Generic;

namespace Ezflow
{
    /// <summary>What a turn is asked for with, beside its input.</summary>
    public sealed class TurnRequest
    {
        /// <summary>The stage that the input goes to: its name (string) or index (int). Null: the first.</summary>
        public object Entry { get; set; }

        /// <summary>Options of the stages, by the key that GET /flow tells: { "LLM": { "temperature": 0.5 } }.</summary>
        public Dictionary<string, object> Options { get; set; }

        /// <summary>Have the turn tell what its stages are doing (Turn.Stages).</summary>
        public bool Timeline { get; set; }

        /// <summary>The fields of the body of POST /turns, or of a start frame.</summary>
        internal Dictionary<string, object> ToJson()
        {
            var json = new Dictionary<string, object>();
            if (Entry != null)
                json["entry"] = Entry;
            if (Options != null)
                json["options"] = Options;
            if (Timeline)
                json["timeline"] = true;
            return json;
        }

        /// <summary>Sound goes as base64; text and JSON values as they are.</summary>
        internal static object Payload(object input)
        {
            return input is byte[] sound ? Convert.ToBase64String(sound) : input;
        }
    }

    /// <summary>What binary frames hold: PCM16, little-endian, channels interleaved.</summary>
    public struct SoundFormat
    {
        public SoundFormat(int rateHz, int channels)
        {
            RateHz = rateHz;
            Channels = channels;
        }

        /// <summary>16 kHz mono: what speech recognition works with.</summary>
        public static SoundFormat Speech
        {
            get { return new SoundFormat(16000, 1); }
        }

        public int RateHz { get; }

        public int Channels { get; }
    }
}
