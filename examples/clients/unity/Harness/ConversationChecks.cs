using System;
using System.Collections.Generic;
using System.Threading.Tasks;

namespace Ezflow.Harness
{
    /// <summary>Against a server whose flow answers `You said {}.`, a word at a time, with 50 ms of sound a character.</summary>
    internal static class ConversationChecks
    {
        private sealed class Microphone : ISoundInput
        {
            internal readonly Queue<byte[]> Recorded = new Queue<byte[]>();

            public SoundFormat Format
            {
                get { return SoundFormat.Speech; }
            }

            public byte[] Read()
            {
                return Recorded.Count == 0 ? new byte[0] : Recorded.Dequeue();
            }
        }

        private sealed class Room
        {
            internal readonly VirtualOutput Output = new VirtualOutput();
            internal readonly Microphone Microphone = new Microphone();
            internal readonly Conversation Conversation;
            internal readonly List<string> Subtitles = new List<string>();
            internal readonly List<string> Understood = new List<string>();
            internal readonly List<EzflowException> Closed = new List<EzflowException>();
            internal int Interruptions;
            private double now;

            internal Room(string url, object textEntry)
            {
                Conversation = new Conversation(new EzflowClient(url, "room"), Output, Microphone) { TextEntry = textEntry };
                Conversation.Subtitled += Subtitles.Add;
                Conversation.Understood += transcript => Understood.Add(transcript.Text);
                Conversation.Closed += Closed.Add;
                Conversation.Interrupted += () => Interruptions++;
            }

            internal string Shown
            {
                get { return Subtitles.Count == 0 ? "" : Subtitles[Subtitles.Count - 1]; }
            }

            /// <summary>Let frames pass until it holds; time goes on only if `ms` does.</summary>
            internal async Task Until(Func<bool> holds, double ms = 0)
            {
                while (true)
                {
                    var changed = Conversation.Changed();
                    now += ms / 1000;
                    Output.Hear(ms);
                    Conversation.Tick(now);
                    if (holds())
                        return;
                    if (ms == 0)
                        await changed;
                    else
                        await Task.Yield();
                }
            }
        }

        [Check]
        private static async Task TextIsShownWhileItsSoundPlays(string url)
        {
            var room = new Room(url, "model");
            room.Conversation.Say("a b c d");
            await room.Until(() => room.Output.QueuedSeconds > 0.8);
            Checks.Equal("", room.Shown);
            await room.Until(() => room.Shown.Length > 0, 10);
            Checks.Equal("You", room.Shown);
            await room.Until(() => room.Output.QueuedSeconds == 0, 10);
            await room.Until(() => room.Shown == "You said a b c d.", 10);
            room.Conversation.Dispose();
        }

        [Check]
        private static async Task InterruptSilencesAndTheConversationGoesOn(string url)
        {
            var room = new Room(url, "model");
            room.Conversation.Say("one two three four five six seven eight nine ten");
            await room.Until(() => room.Output.QueuedSeconds > 1);
            await room.Until(() => room.Shown.EndsWith("one"), 10);
            room.Conversation.Interrupt();
            Checks.Equal(0.0, room.Output.QueuedSeconds);
            await room.Until(() => room.Interruptions == 1);
            var cut = room.Shown;
            room.Conversation.Say("again");
            await room.Until(() => room.Output.QueuedSeconds > 0.5);
            Checks.Equal(cut, room.Shown);
            await room.Until(() => room.Shown == "You said again.", 10);
            Checks.Equal(0, room.Closed.Count);
            room.Conversation.Dispose();
        }

        [Check]
        private static async Task TheMicrophoneIsSentOnlyWhileTalking(string url)
        {
            var room = new Room(url, null);
            room.Microphone.Recorded.Enqueue(new byte[3200]);
            await room.Until(() => room.Microphone.Recorded.Count == 0, 10);
            Checks.True(room.Conversation.Changed().IsCompleted, "nothing was opened");
            room.Conversation.Talk(true);
            room.Microphone.Recorded.Enqueue(new byte[640]);
            await room.Until(() => room.Understood.Count == 1);
            Checks.Equal("640 bytes", room.Understood[0]);
            room.Conversation.Talk(false);
            room.Microphone.Recorded.Enqueue(new byte[3200]);
            await room.Until(() => room.Microphone.Recorded.Count == 0, 10);
            room.Conversation.Talk(true);
            room.Microphone.Recorded.Enqueue(new byte[320]);
            await room.Until(() => room.Understood.Count == 2);
            Checks.Equal("320 bytes", room.Understood[1]);
            room.Conversation.Dispose();
        }

        [Check]
        private static async Task WithHalfDuplexTheReplyIsNotHeardByTheMicrophone(string url)
        {
            var room = new Room(url, null);
            room.Conversation.HalfDuplex = true;
            room.Conversation.Talk(true);
            room.Microphone.Recorded.Enqueue(new byte[640]);
            await room.Until(() => room.Conversation.IsAnswering);
            room.Microphone.Recorded.Enqueue(new byte[3200]);
            room.Conversation.Tick(0);
            await room.Until(() => !room.Conversation.IsAnswering, 10);
            room.Microphone.Recorded.Enqueue(new byte[320]);
            await room.Until(() => room.Understood.Count == 2);
            Checks.Equal("320 bytes", room.Understood[1]);
            room.Conversation.Dispose();
        }

        [Check]
        private static async Task AServerThatIsNotThereIsToldAndAskedAgainLater(string url)
        {
            var room = new Room(url, null);
            room.Conversation.Talk(true);
            await room.Until(() => room.Closed.Count == 1);
            Checks.True(room.Closed[0] is ClosedException, "as a lost connection");
            Checks.True(room.Conversation.Changed().IsCompleted, "it waits");
            await room.Until(() => room.Closed.Count == 2, 10);
            room.Conversation.Dispose();
        }
    }
}
