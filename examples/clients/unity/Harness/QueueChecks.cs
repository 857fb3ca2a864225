using System.Threading;
using System.Threading.Tasks;

namespace Ezflow.Harness
{
    internal static class QueueChecks
    {
        /// <summary>A turn that is told its events by hand.</summary>
        private sealed class ToldTurn : Turn
        {
            internal ToldTurn()
                : base(CancellationToken.None)
            {
            }
        }

        [Check]
        private static void AFullQueueHoldsUpItsTurnUntilSomethingIsTaken()
        {
            var turn = new ToldTurn();
            for (var i = 0; i < Turn.MostEvents; i++)
                Checks.True(turn.Deliver(Text(i)).IsCompleted, "there is room");
            var late = turn.Deliver(Text(1000));
            Checks.True(!late.IsCompleted, "a full queue takes no more");
            Checks.Equal(Turn.MostEvents, turn.Texts.Count);
            turn.Texts.TryTake(out var first);
            late.Wait();
            Checks.Equal(0, first.Seq);
            Checks.Equal(Turn.MostEvents, turn.Texts.Count);
        }

        [Check]
        private static void SoundIsBoundedInBytesAndNeverStuck()
        {
            var turn = new ToldTurn();
            Checks.True(turn.Deliver(Sound(0, (int)Turn.MostSoundBytes + 2)).IsCompleted, "one sound always fits");
            var late = turn.Deliver(Sound(1, 2));
            Checks.True(!late.IsCompleted, "not beyond the bound");
            turn.Sounds.TryTake(out _);
            late.Wait();
        }

        [Check]
        private static void CancellingFreesATurnThatWaitsForRoom()
        {
            var turn = new ToldTurn();
            turn.Deliver(Sound(0, (int)Turn.MostSoundBytes)).Wait();
            var running = turn.Run(() => turn.Deliver(Sound(1, 2)));
            turn.Cancel();
            running.Wait();
            Checks.True(turn.IsOver && turn.Failure == null, "cancelled is not failed");
        }

        [Check]
        private static void AnIgnoredQueueHoldsUpNothing()
        {
            var turn = new ToldTurn();
            turn.Texts.Ignore();
            for (var i = 0; i < 3 * Turn.MostEvents; i++)
                Checks.True(turn.Deliver(Text(i)).IsCompleted, "what is not wanted needs no room");
            Checks.Equal(0, turn.Texts.Count);
        }

        [Check]
        private static void HintsOfAFullQueueGiveWayToNewerOnes()
        {
            var turn = new ToldTurn();
            for (var i = 0; i <= Turn.MostStages; i++)
                Checks.True(turn.Deliver(new StageEvent { State = "working", Seq = i }).IsCompleted, "hints wait for nobody");
            turn.Stages.TryTake(out var first);
            Checks.Equal(1, first.Seq);
        }

        [Check]
        private static void InterruptedEmptiesTheQueuesOfThatRunAlone()
        {
            var turn = new ToldTurn();
            turn.Deliver(Text(1, 1)).Wait();
            turn.Deliver(Sound(2, 4, 1)).Wait();
            turn.Deliver(new TranscriptEvent { Text = "stop", Run = 1, Seq = 3 }).Wait();
            turn.Deliver(Text(4, 2)).Wait();
            turn.Deliver(new InterruptedEvent { Run = 1, Seq = 5 }).Wait();
            Checks.Equal(0, turn.Sounds.Count);
            Checks.Equal(1, turn.Transcripts.Count);
            Checks.True(turn.Texts.TryTake(out var text) && text.Run == 2 && turn.Texts.Count == 0, "the other run's text stays");
            Checks.True(turn.Interruptions.TryTake(out var interrupted) && interrupted.Run == 1, "and it is told");
        }

        [Check]
        private static void NothingOfAReplyIsQueuedBetweenInterruptAndItsAnswer()
        {
            var turn = new LiveTurn(CancellationToken.None);
            turn.Deliver(Text(1, 1)).Wait();
            turn.Interrupt();
            Checks.Equal(0, turn.Texts.Count);
            turn.Deliver(Text(2, 1)).Wait();
            turn.Deliver(Sound(3, 4, 1)).Wait();
            Checks.Equal(0, turn.Texts.Count + turn.Sounds.Count);
            turn.Deliver(new InterruptedEvent { Run = 1, Seq = 4 }).Wait();
            turn.Deliver(Text(5, 2)).Wait();
            Checks.Equal(1, turn.Texts.Count);
        }

        [Check]
        private static void WhatWaitsToBeSentIsBoundedAndAnInterruptGoesFirst()
        {
            var outgoing = new Outgoing();
            var piece = new Outgoing.Frame { Bytes = new byte[Outgoing.MostBytes / 4] };
            for (var i = 0; i < 4; i++)
                Checks.True(outgoing.Put(piece), "there is room");
            Checks.True(!outgoing.Put(piece), "not for a fifth");
            outgoing.PutInterrupt(new Outgoing.Frame { Bytes = new byte[1], IsText = true });
            Checks.Equal(1, outgoing.Take(CancellationToken.None).Result.Bytes.Length);
            Checks.Equal(piece.Bytes.Length, outgoing.Take(CancellationToken.None).Result.Bytes.Length);
            Checks.True(outgoing.Put(piece), "there is room again");
        }

        [Check]
        private static void ReportsThatCannotBeSentGiveWayToNewerOnesAndNeverToAnInterrupt()
        {
            var outgoing = new Outgoing();
            for (var i = 0; i <= Outgoing.MostFrames; i++)
                outgoing.PutReport(new Outgoing.Frame { Bytes = new byte[i] });
            for (var i = 0; i < 2; i++)
                outgoing.PutInterrupt(new Outgoing.Frame { Bytes = new byte[0], IsText = true });
            outgoing.Put(new Outgoing.Frame { Bytes = new byte[7] });
            for (var i = 1; i <= Outgoing.MostFrames; i++)
                Checks.Equal(i, outgoing.Take(CancellationToken.None).Result.Bytes.Length);
            Checks.True(outgoing.Take(CancellationToken.None).Result.IsText, "the interrupt");
            Checks.Equal(7, outgoing.Take(CancellationToken.None).Result.Bytes.Length);
        }

        [Check]
        private static async Task EveryThreadMayTake()
        {
            const int events = 20000;
            var turn = new ToldTurn();
            var taken = 0;
            var takers = new Task[3];
            for (var i = 0; i < takers.Length; i++)
            {
                takers[i] = Task.Run(async () =>
                {
                    while (true)
                    {
                        var changed = turn.Changed();
                        var isOver = turn.IsOver;
                        while (turn.Texts.TryTake(out _))
                            Interlocked.Increment(ref taken);
                        if (isOver)
                            return;
                        await changed;
                    }
                });
            }
            await turn.Run(async () =>
            {
                for (var i = 0; i < events; i++)
                    await turn.Deliver(Text(i));
            });
            await Task.WhenAll(takers);
            Checks.Equal(events, taken);
        }

        private static TextEvent Text(int seq, int run = 0)
        {
            return new TextEvent { Text = "x", Seq = seq, Run = run };
        }

        private static SoundEvent Sound(int seq, int bytes, int run = 0)
        {
            return new SoundEvent { Pcm = new byte[bytes], RateHz = 24000, Channels = 1, Seq = seq, Run = run };
        }
    }
}
