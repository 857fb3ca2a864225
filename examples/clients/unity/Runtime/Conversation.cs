using System;
using System.Threading.Tasks;

namespace Ezflow
{
    /// <summary>
    /// A spoken conversation: a microphone and typed text into a live turn; out of it sound, with subtitles in step.
    /// Everything happens in Tick and in the methods that you call, on your thread.
    /// </summary>
    /// <remarks>For a flow whose answers are runs of a Latest, such as the flow `live` of examples/voice.py.</remarks>
    public sealed class Conversation : IDisposable
    {
        // What the player holds is gone at once when it is stopped; what the turn holds is bounded.
        private const double AheadSeconds = 2;
        private const double ReportEveryMs = 250;
        private const double RetryAfterSeconds = 2;

        private readonly EzflowClient client;
        private readonly ISoundOutput output;
        private readonly ISoundInput input;
        private LiveTurn turn;
        private double now;
        private double openAt;
        private SoundEvent given;
        private SoundEvent reported;
        private double reportedMs;
        private bool stopping;
        private string shown = "";

        /// <summary>`input` may be null: then there is typed text alone.</summary>
        public Conversation(EzflowClient client, ISoundOutput output, ISoundInput input = null)
        {
            this.client = client;
            this.output = output;
            this.input = input;
            output.Played += Played;
        }

        /// <summary>The subtitle has changed.</summary>
        public event Action<string> Subtitled;

        /// <summary>What was understood of the user so far, or in the end.</summary>
        public event Action<TranscriptEvent> Understood;

        /// <summary>A stage failed, or a frame was refused; the conversation goes on.</summary>
        public event Action<ErrorEvent> Failed;

        /// <summary>The reply was interrupted, by speech or by Interrupt().</summary>
        public event Action Interrupted;

        /// <summary>Any other event of the flow.</summary>
        public event Action<DataEvent> Told;

        /// <summary>
        /// The turn is over, by this failure if it is not null. It is begun anew by what is said next; if Talking, two
        /// seconds later or when the server says.
        /// </summary>
        public event Action<EzflowException> Closed;

        /// <summary>How live turns are asked for: options, and the stage that sound goes to.</summary>
        public TurnRequest Request { get; set; }

        /// <summary>The stage that typed text goes to, such as local_llm. Null: the one that sound goes to.</summary>
        public object TextEntry { get; set; }

        /// <summary>
        /// Send nothing while the reply is heard. For loudspeakers: without echo cancellation the reply would otherwise
        /// come back through the microphone and interrupt itself.
        /// </summary>
        public bool HalfDuplex { get; set; }

        /// <summary>The microphone is being sent.</summary>
        public bool Talking { get; private set; }

        /// <summary>Sound of the reply is being heard.</summary>
        public bool IsAnswering
        {
            get { return output.QueuedSeconds > 0; }
        }

        public Subtitles Subtitles { get; } = new Subtitles();

        /// <summary>Pieces of sound that the server had no room for.</summary>
        public int LostInputs { get; private set; }

        /// <summary>Begin or end to send the microphone: for hands-free, once; for push-to-talk, while the key is down.</summary>
        public void Talk(bool on)
        {
            if (on && !Talking)
            {
                input?.Read(); // what was recorded before is not meant for anyone
                openAt = now;
            }
            Talking = on;
        }

        /// <summary>Ask in writing. False if it was not taken, because too much waits already.</summary>
        public bool Say(string text)
        {
            return Open().SendInput(text, TextEntry);
        }

        /// <summary>Silence the reply at once, and have it ended; the conversation goes on.</summary>
        public void Interrupt()
        {
            StopSound();
            Subtitles.CutAll();
            if (turn != null && !turn.IsOver)
                turn.Interrupt();
        }

        /// <summary>Do what is due; call it once a frame. `seconds` is the time on a clock that pauses for nothing.</summary>
        public void Tick(double seconds)
        {
            now = seconds;
            Listen();
            if (turn != null)
                Take(turn);
            if (turn != null && turn.IsDrained)
                Leave();
            Subtitles.Tick(now);
            if (Subtitles.Text == shown)
                return;
            shown = Subtitles.Text;
            Subtitled?.Invoke(shown);
        }

        /// <summary>For programs without frames: completes when there is something for Tick to take.</summary>
        public Task Changed()
        {
            return turn == null ? Task.CompletedTask : turn.Changed();
        }

        /// <summary>End the conversation: the connection is closed.</summary>
        public void Dispose()
        {
            Talking = false;
            StopSound();
            turn?.Cancel();
            turn = null;
            output.Played -= Played;
        }

        private LiveTurn Open()
        {
            var over = turn;
            if (over != null && over.IsOver)
            {
                over.Sounds.Ignore();
                Take(over);
                if (turn == over) // else a handler of what was taken has begun another
                    Leave();
            }
            if (turn == null)
            {
                turn = client.Live(Request, input?.Format);
                turn.Stages.Ignore();
            }
            return turn;
        }

        private void Listen()
        {
            var pcm = input?.Read();
            if (!Talking || pcm == null || (turn == null ? now < openAt : turn.IsOver))
                return;
            if (HalfDuplex && IsAnswering)
                return;
            if (!Open().Send(pcm))
                LostInputs++;
        }

        private void Take(LiveTurn from)
        {
            while (from.Interruptions.TryTake(out var interrupted))
                Take(interrupted);
            while (from.Errors.TryTake(out var error))
                Failed?.Invoke(error);
            while (from.Transcripts.TryTake(out var transcript))
                Understood?.Invoke(transcript);
            while (from.Data.TryTake(out var data))
                Told?.Invoke(data);
            while (from.Texts.TryTake(out var text))
                Subtitles.Add(text, now);
            while (output.QueuedSeconds < AheadSeconds && from.Sounds.TryTake(out var sound))
            {
                Subtitles.Add(sound);
                output.Play(given = sound);
            }
        }

        private void Take(InterruptedEvent interrupted)
        {
            if (given != null && given.TurnId == interrupted.TurnId && given.Run == interrupted.Run)
                StopSound();
            Subtitles.Cut(interrupted);
            if (interrupted.Seq > 0) // else nothing was at work
                Interrupted?.Invoke();
        }

        private void Leave()
        {
            var left = turn;
            turn = null;
            Subtitles.End();
            var wait = left.Failure is RefusedException refused && refused.RetryAfterSeconds != null ? refused.RetryAfterSeconds.Value : 0;
            openAt = now + Math.Max(RetryAfterSeconds, wait);
            if (left.Ended != null && left.Ended.Reason == "interrupted")
                Talking = false; // the user has begun a turn elsewhere: to begin one here in return would end that
            Closed?.Invoke(left.Failure);
        }

        private void StopSound()
        {
            stopping = true;
            output.Stop();
            stopping = false;
            Subtitles.CutUnheard();
        }

        private void Played(SoundEvent sound, double ms)
        {
            Subtitles.Heard(sound, ms, now);
            var whole = ms >= sound.DurationMs;
            if (sound == reported && !stopping && !whole && ms < reportedMs + ReportEveryMs)
                return;
            reported = sound;
            reportedMs = ms;
            turn?.Played(sound, ms);
        }
    }
}
