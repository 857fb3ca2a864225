using System;
using System.Collections.Generic;

namespace Ezflow.Harness
{
    internal static class JsonChecks
    {
        [Check]
        private static void JsonIsReadAsPlainValues()
        {
            Checks.Equal<object>(null, Json.Read(" null "));
            Checks.Equal<object>(true, Json.Read("true"));
            Checks.Equal<object>(false, Json.Read("\tfalse\n"));
            Checks.Equal<object>(0L, Json.Read("0"));
            Checks.Equal<object>(-12L, Json.Read("-12"));
            Checks.Equal<object>(9007199254740993L, Json.Read("9007199254740993"));
            Checks.Equal<object>(1e30, Json.Read("1000000000000000000000000000000"));
            Checks.Equal<object>(-0.25, Json.Read("-0.25"));
            Checks.Equal<object>(1500.0, Json.Read("1.5e3"));
            Checks.Equal<object>(0.02, Json.Read("2E-2"));
            Checks.Equal<object>("", Json.Read("\"\""));
            Checks.Equal<object>("a\"\\/\b\f\n\r\tz", Json.Read("\"a\\\"\\\\\\/\\b\\f\\n\\r\\tz\""));
            Checks.Equal<object>("é你😀", Json.Read("\"\\u00e9\\u4f60\\ud83d\\uDE00\""));
            Checks.Equal<object>("é你😀", Json.Read("\"é你😀\""));
            Checks.Equal(0, Json.ReadObject("{ }").Count);
            Checks.Equal(0, ((List<object>)Json.Read("[ ]")).Count);
            var nested = Json.ReadObject("{\"a\": [1, {\"b\": null}], \"c\" : \"d\"}");
            Checks.Equal<object>("d", nested["c"]);
            Checks.Equal<object>(1L, ((List<object>)nested["a"])[0]);
            Checks.True(((Dictionary<string, object>)((List<object>)nested["a"])[1]).ContainsKey("b"), "a key that is null is there");
        }

        [Check]
        private static void WhatIsNotJsonIsRefused()
        {
            var wrong = new[]
            {
                "", " ", "tru", "nul", "True", "+1", "01", "1.", ".5", "1e", "1e+", "-", "NaN", "Infinity", "0x10", "'a'",
                "\"a", "\"\\x\"", "\"\\u12g4\"", "\"\\u12\"", "\"a\nb\"", "\"\0\"", "[1,]", "[1 2]", "[,1]", "[", "[1",
                "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{\"a\":1 \"b\":2}", "{1:2}", "1 2", "{} {}", "[]]", "null,",
                "// no\n1", "\u00a01",
            };
            foreach (var text in wrong)
                Checks.Throws<FormatException>(() => Json.Read(text), text);
            Checks.Throws<FormatException>(() => Json.Read(new string('[', 100000)), "deep nesting is no stack overflow");
            Checks.Throws<FormatException>(() => Json.ReadObject("[]"), "an array is no object");
        }

        [Check]
        private static void WhatIsWrittenIsReadBack()
        {
            var value = new Dictionary<string, object>
            {
                ["text"] = "a\"\\\n\0é你😀", ["int"] = 5, ["long"] = long.MinValue, ["double"] = 0.1, ["no"] = false, ["null"] = null,
                ["list"] = new object[] { 1, "x", new Dictionary<string, int> { ["k"] = 2 } }, ["empty"] = new List<object>(),
            };
            var text = Json.Write(value);
            Checks.Equal(text, Json.Write(Json.Read(text)));
            Checks.Equal<object>("a\"\\\n\0é你😀", Json.ReadObject(text)["text"]);
            Checks.Equal<object>(0.1, Json.ReadObject(text)["double"]);
            Checks.Equal<object>(long.MinValue, Json.ReadObject(text)["long"]);
            Checks.Throws<ArgumentException>(() => Json.Write(double.NaN), "NaN");
            Checks.Throws<ArgumentException>(() => Json.Write(new Version(1, 0)), "an object of a class");
            var loop = new List<object>();
            loop.Add(loop);
            Checks.Throws<ArgumentException>(() => Json.Write(loop), "a list that holds itself");
        }

        [Check]
        private static void WavFilesAreWrittenAndRead()
        {
            var pcm = new byte[] { 1, 2, 3, 4, 5, 6, 7, 8 };
            var wav = Wav.Write(pcm, new SoundFormat(24000, 2));
            SoundFormat format;
            Checks.Equal(Convert.ToBase64String(pcm), Convert.ToBase64String(Wav.Read(wav, out format)));
            Checks.Equal(24000, format.RateHz);
            Checks.Equal(2, format.Channels);
            wav[34] = 8;
            Checks.Throws<FormatException>(() => Wav.Read(wav, out format), "8-bit samples");
            for (var length = 0; length < 44; length++)
            {
                var part = new byte[length];
                Buffer.BlockCopy(wav, 0, part, 0, length);
                Checks.Throws<FormatException>(() => Wav.Read(part, out format), length + " bytes of a WAV");
            }
        }
    }
}
