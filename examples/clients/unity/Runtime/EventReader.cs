using System;
using System.Collections.Generic;

namespace Ezflow
{
    /// <summary>Makes events of their JSON.</summary>
    internal static class EventReader
    {
        /// <summary>Read an event. Sound that follows as a binary frame is set by the caller. Throws ProtocolException.</summary>
        internal static TurnEvent Read(Dictionary<string, object> json)
        {
            try
            {
                var type = Get<string>(json, "type");
                var made = Make(type, json);
                made.Type = type;
                made.TurnId = Number(json, "turn");
                made.Run = Number(json, "run");
                made.Seq = Number(json, "seq");
                made.Stage = Maybe<string>(json, "stage");
                made.Seconds = json.TryGetValue("t", out var t) ? Convert.ToDouble(t) : 0;
                return made;
            }
            catch (Exception error) when (error is FormatException || error is InvalidCastException || error is OverflowException)
            {
                throw new ProtocolException("not an event of ezflow's: " + Brief(json) + ": " + error.Message, error);
            }
        }

        /// <summary>Read one line or frame as an object. Throws ProtocolException.</summary>
        internal static Dictionary<string, object> Parse(string text)
        {
            try
            {
                return Json.ReadObject(text);
            }
            catch (FormatException error)
            {
                var brief = text.Length > 80 ? text.Substring(0, 80) + "…" : text;
                throw new ProtocolException("the server sent what is no JSON object: " + brief, error);
            }
        }

        private static TurnEvent Make(string type, Dictionary<string, object> json)
        {
            switch (type)
            {
                case "turn.started":
                    return new StartedEvent();
                case "text":
                    return new TextEvent { Text = Get<string>(json, "text") };
                case "transcript":
                    return new TranscriptEvent { Text = Get<string>(json, "text"), Final = Get<bool>(json, "final") };
                case "audio":
                    return Sound(json);
                case "error":
                    return new ErrorEvent
                    {
                        Error = Get<string>(json, "error"),
                        Message = Get<string>(json, "message"),
                        Path = Maybe<string>(json, "path"),
                    };
                case "stage":
                    return new StageEvent { State = Get<string>(json, "state") };
                case "interrupted":
                    return new InterruptedEvent();
                case "turn.ended":
                    return new EndedEvent { Reason = Get<string>(json, "reason") };
                default:
                    return new DataEvent { Data = Maybe<object>(json, "data") };
            }
        }

        private static SoundEvent Sound(Dictionary<string, object> json)
        {
            var data = Maybe<string>(json, "data");
            var pcm = data == null ? new byte[0] : Convert.FromBase64String(data);
            return WithPcm(new SoundEvent { RateHz = Number(json, "rate_hz"), Channels = Number(json, "channels") }, pcm);
        }

        /// <summary>Gives a sound its samples. Throws FormatException if they are not whole frames.</summary>
        internal static SoundEvent WithPcm(SoundEvent sound, byte[] pcm)
        {
            if (sound.RateHz < 1 || sound.Channels < 1 || pcm.Length % (2 * sound.Channels) != 0)
                throw new FormatException(pcm.Length + " bytes of " + sound.Channels + " channels at " + sound.RateHz + " Hz");
            sound.Pcm = pcm;
            return sound;
        }

        internal static T Maybe<T>(Dictionary<string, object> json, string key)
        {
            return json.TryGetValue(key, out var value) && value is T found ? found : default(T);
        }

        internal static int Number(Dictionary<string, object> json, string key)
        {
            return json.TryGetValue(key, out var value) && value != null ? checked((int)(long)value) : 0;
        }

        private static T Get<T>(Dictionary<string, object> json, string key)
        {
            return json.TryGetValue(key, out var value) && value is T found ? found : throw new FormatException(key + " is missing");
        }

        private static string Brief(Dictionary<string, object> json)
        {
            return "{" + string.Join(", ", json.Keys) + "}";
        }
    }
}
