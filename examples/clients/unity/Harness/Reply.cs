using System.Collections.Generic;
using System.Text;
using System.Threading.Tasks;

namespace Ezflow.Harness
{
    /// <summary>All that a turn told, gathered as it came.</summary>
    internal sealed class Reply
    {
        private readonly Turn turn;
        private readonly StringBuilder text = new StringBuilder();

        internal Reply(Turn turn)
        {
            this.turn = turn;
        }

        internal string Text
        {
            get { return text.ToString(); }
        }

        internal string Transcript { get; private set; }

        internal double SoundSeconds { get; private set; }

        internal int RateHz { get; private set; }

        internal List<TurnEvent> Events { get; } = new List<TurnEvent>();

        /// <summary>Take what is in the queues, as Update() would.</summary>
        internal void Take()
        {
            while (turn.Interruptions.TryTake(out var interrupted))
                Events.Add(interrupted);
            while (turn.Transcripts.TryTake(out var transcript))
            {
                Events.Add(transcript);
                if (transcript.Final)
                    Transcript = transcript.Text;
            }
            while (turn.Texts.TryTake(out var piece))
            {
                Events.Add(piece);
                text.Append(piece.Text);
            }
            while (turn.Sounds.TryTake(out var sound))
            {
                Events.Add(sound);
                SoundSeconds += sound.DurationMs / 1000;
                RateHz = sound.RateHz;
            }
            while (turn.Errors.TryTake(out var error))
                Events.Add(error);
            while (turn.Data.TryTake(out var data))
                Events.Add(data);
            while (turn.Stages.TryTake(out var stage))
                Events.Add(stage);
        }

        /// <summary>Take until one such event is there. False if the turn is over before.</summary>
        internal async Task<bool> Until<T>()
            where T : TurnEvent
        {
            while (true)
            {
                var changed = turn.Changed();
                var over = turn.IsOver;
                Take();
                if (Events.Exists(came => came is T))
                    return true;
                if (over)
                    return false;
                await changed;
            }
        }

        /// <summary>Take until the turn is over. Throws its Failure, if it has one.</summary>
        internal async Task<Reply> Whole()
        {
            while (!turn.IsDrained)
            {
                var changed = turn.Changed();
                Take();
                if (!turn.IsDrained)
                    await changed;
            }
            turn.ThrowIfFailed();
            return this;
        }
    }
}
