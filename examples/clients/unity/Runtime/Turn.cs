using System;
using System.Threading;
using System.Threading.Tasks;

namespace Ezflow
{
    /// <summary>
    /// One turn as its client sees it: a bounded queue for each type of event, filled by the connection's own tasks
    /// and emptied by you, in Update() say. Nothing here waits, blocks or calls you from another thread.
    /// </summary>
    public abstract class Turn
    {
        internal const int MostEvents = 256;
        internal const int MostStages = 1024;
        internal const long MostSoundBytes = 8 * 1024 * 1024;

        private readonly CancellationTokenSource cancelling = new CancellationTokenSource();
        private readonly CancellationTokenRegistration asked;
        private readonly Signals signals = new Signals();
        private readonly TaskCompletionSource<bool> over =
            new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        private bool unwanted;

        internal Turn(CancellationToken cancelled)
        {
            asked = cancelled.Register(Cancel);
            Texts = new EventQueue<TextEvent>(signals, MostEvents);
            Sounds = new EventQueue<SoundEvent>(signals, MostEvents, false, sound => sound.Pcm.Length, MostSoundBytes);
            Transcripts = new EventQueue<TranscriptEvent>(signals, MostEvents);
            Errors = new EventQueue<ErrorEvent>(signals, MostEvents);
            Data = new EventQueue<DataEvent>(signals, MostEvents);
            Interruptions = new EventQueue<InterruptedEvent>(signals, MostEvents);
            Stages = new EventQueue<StageEvent>(signals, MostStages, true);
        }

        public EventQueue<TextEvent> Texts { get; }

        /// <summary>Holds some three minutes of speech at most.</summary>
        public EventQueue<SoundEvent> Sounds { get; }

        public EventQueue<TranscriptEvent> Transcripts { get; }

        public EventQueue<ErrorEvent> Errors { get; }

        public EventQueue<DataEvent> Data { get; }

        /// <summary>Look here first: what you have taken of such a run and not yet played is to be dropped.</summary>
        public EventQueue<InterruptedEvent> Interruptions { get; }

        /// <summary>Hints for drawing (TurnRequest.Timeline): when it is full, the oldest go.</summary>
        public EventQueue<StageEvent> Stages { get; }

        /// <summary>The turn's number; 0 until it has begun.</summary>
        public int Id { get; private set; }

        /// <summary>How the turn ended; null while it runs, and when it was broken off.</summary>
        public EndedEvent Ended { get; private set; }

        /// <summary>Why the turn was broken off, if it was and not by Cancel().</summary>
        public EzflowException Failure { get; private set; }

        /// <summary>Nothing more comes. The queues may still hold something.</summary>
        public bool IsOver
        {
            get { return over.Task.IsCompleted; }
        }

        /// <summary>Completes when nothing more comes; never fails.</summary>
        public Task Over
        {
            get { return over.Task; }
        }

        /// <summary>Nothing more comes, and all that came was taken.</summary>
        public bool IsDrained
        {
            get
            {
                lock (signals.Gate)
                {
                    return IsOver && Texts.Count + Sounds.Count + Transcripts.Count + Errors.Count + Data.Count
                        + Interruptions.Count + Stages.Count == 0;
                }
            }
        }

        internal CancellationToken Cancelled
        {
            get { return cancelling.Token; }
        }

        /// <summary>Break the turn off: the connection is closed, which ends it on the server too.</summary>
        public void Cancel()
        {
            cancelling.Cancel();
        }

        /// <summary>
        /// For programs without an Update(): completes when something came, was taken, or the turn is over. Ask for it
        /// first, then look into the queues, then await it; so nothing is missed.
        /// </summary>
        public Task Changed()
        {
            var next = signals.Next();
            return IsOver ? Task.CompletedTask : next;
        }

        /// <summary>Throws Failure, if there is one.</summary>
        public void ThrowIfFailed()
        {
            if (Failure != null)
                throw Failure;
        }

        /// <summary>Run the connection until the turn is over, whatever happens to it.</summary>
        internal async Task Run(Func<Task> connection)
        {
            try
            {
                await connection().ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (cancelling.IsCancellationRequested)
            {
            }
            catch (EzflowException error)
            {
                Failure = error;
            }
            catch (Exception error)
            {
                // Transports tell a cancelled operation by many names; and one that fails otherwise is a lost connection.
                if (!cancelling.IsCancellationRequested)
                    Failure = new ClosedException(ClosedException.Lost, Innermost(error).Message, error);
            }
            asked.Dispose();
            over.TrySetResult(true);
            signals.Changed();
        }

        /// <summary>
        /// Put an event where it belongs, when there is room. Throws OperationCanceledException.
        /// </summary>
        internal async Task Deliver(TurnEvent came)
        {
            while (true)
            {
                var room = signals.Next();
                bool held;
                lock (signals.Gate)
                    held = Hold(came);
                if (held)
                    break;
                await Signals.Wait(room, Cancelled).ConfigureAwait(false);
            }
            signals.Changed();
        }

        /// <summary>Drop what there is of the reply, and what comes of it until it is interrupted.</summary>
        internal void Unwant()
        {
            lock (signals.Gate)
            {
                unwanted = true;
                Texts.Clear();
                Sounds.Clear();
            }
            signals.Changed();
        }

        private bool Hold(TurnEvent came)
        {
            if (came is TextEvent text)
                return unwanted || Texts.Offer(text);
            if (came is SoundEvent sound)
                return unwanted || Sounds.Offer(sound);
            if (came is TranscriptEvent transcript)
                return Transcripts.Offer(transcript);
            if (came is ErrorEvent error)
                return Errors.Offer(error);
            if (came is StageEvent stage)
                return Stages.Offer(stage);
            if (came is InterruptedEvent interrupted)
                return Interrupt(interrupted);
            if (came is DataEvent data)
                return Data.Offer(data);
            if (came is EndedEvent ended)
                Ended = ended;
            else
                Id = came.TurnId; // turn.started
            return true;
        }

        /// <summary>What was understood and what failed stays: it has happened. What there is to show and to say goes.</summary>
        private bool Interrupt(InterruptedEvent interrupted)
        {
            unwanted = false;
            Texts.Drop(interrupted.Run);
            Sounds.Drop(interrupted.Run);
            Data.Drop(interrupted.Run);
            return Interruptions.Offer(interrupted);
        }

        private static Exception Innermost(Exception error)
        {
            return error.InnerException == null ? error : Innermost(error.InnerException);
        }
    }
}
