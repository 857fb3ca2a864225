using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;

namespace Ezflow.Harness
{
    /// <summary>`Scenario.exe URL QUESTION.wav`: what every client of ezflow can do, a JSON line for each step.</summary>
    internal static class Scenario
    {
        private const string Question = "How many legs does a spider have?";
        private const int FrameMs = 32;
        private static readonly TurnRequest AtModel = new TurnRequest { Entry = "local_llm" };

        private static void Main(string[] arguments)
        {
            Run(arguments[0], File.ReadAllBytes(arguments[1])).GetAwaiter().GetResult();
        }

        private static async Task Run(string url, byte[] question)
        {
            await OneShot("text", url, Question, AtModel);
            await OneShot("audio", url, question, null);
            await Speak(url + "/live", question);
            await Interrupt(url + "/live");
            await OneShot("entry", url, "This is said as it is.", new TurnRequest { Entry = "sentences" });
            await Refused(url);
        }

        private static async Task OneShot(string step, string url, object input, TurnRequest request)
        {
            using (var client = new EzflowClient(url, "unity-" + step))
            {
                var turn = client.Ask(input, request);
                Print(step, await new Reply(turn).Whole(), turn);
            }
        }

        private static async Task Speak(string url, byte[] question)
        {
            SoundFormat format; // mcs cannot declare it within the call, in an async method
            var pcm = Wav.Read(question, out format);
            using (var client = new EzflowClient(url, "unity-live"))
            {
                var turn = client.Live(null, format);
                var reply = new Reply(turn);
                var speaking = Say(turn, pcm, format);
                await reply.Until<SoundEvent>();
                await speaking;
                turn.End();
                Print("live", await reply.Whole(), turn);
            }
        }

        /// <summary>The sound as a microphone would give it, then a second of silence.</summary>
        private static async Task Say(LiveTurn turn, byte[] pcm, SoundFormat format)
        {
            var frame = 2 * format.Channels * (format.RateHz * FrameMs / 1000);
            var whole = pcm.Concat(new byte[2 * format.Channels * format.RateHz]).ToArray();
            for (var at = 0; at < whole.Length; at += frame)
            {
                turn.Send(whole.Skip(at).Take(frame).ToArray());
                await Task.Delay(FrameMs);
            }
        }

        private static async Task Interrupt(string url)
        {
            using (var client = new EzflowClient(url, "unity-interrupt"))
            {
                var turn = client.Live();
                var first = new Reply(turn);
                turn.SendInput("Count from one to fifty, slowly, in words.", "local_llm");
                await first.Until<TextEvent>();
                turn.Interrupt();
                var interrupted = await first.Until<InterruptedEvent>();
                var next = new Reply(turn);
                turn.SendInput(Question, "local_llm");
                turn.End();
                await next.Whole();
                var over = first.Events.OfType<InterruptedEvent>().First();
                var line = Step("interrupt", "text", first.Text, "interrupted", interrupted);
                line["after"] = first.Events.Concat(next.Events).Count(came =>
                    (came is TextEvent || came is SoundEvent) && came.Run == over.Run && came.Seq > over.Seq);
                line["next"] = next.Text;
                line["reason"] = turn.Ended.Reason;
                Console.WriteLine(Json.Write(line));
            }
        }

        private static async Task Refused(string url)
        {
            using (var client = new EzflowClient(url, "unity-error"))
            {
                try
                {
                    await new Reply(client.Ask(Question, new TurnRequest { Entry = "nowhere" })).Whole();
                }
                catch (RefusedException error)
                {
                    Console.WriteLine(Json.Write(Step("error", "error", error.Error, "message", error.Message)));
                }
            }
        }

        private static void Print(string step, Reply reply, Turn turn)
        {
            var line = new Dictionary<string, object> { ["step"] = step };
            if (reply.Transcript != null)
                line["transcript"] = reply.Transcript;
            line["text"] = reply.Text;
            line["sound_s"] = reply.SoundSeconds;
            line["rate_hz"] = reply.RateHz;
            line["reason"] = turn.Ended.Reason;
            Console.WriteLine(Json.Write(line));
        }

        private static Dictionary<string, object> Step(string step, string key, object value, string key2, object value2)
        {
            return new Dictionary<string, object> { ["step"] = step, [key] = value, [key2] = value2 };
        }
    }
}
