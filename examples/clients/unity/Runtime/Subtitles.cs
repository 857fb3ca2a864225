using System;
using System.Collections.Generic;

namespace Ezflow
{
    /// <summary>What to show of an answer's text while its sound plays.</summary>
    /// <remarks>
    /// On the wire text and sound are separate, and the text runs ahead. So this is an estimate, by these rules:
    /// 1. No text is shown before the first sound that came after it is heard.
    /// 2. While sound is heard, whole words appear at the pace of the voice: CharactersPerSecond, which is measured
    ///    anew in each answer that was heard to its end.
    /// 3. When the sound has run out for DrySeconds, all text that came before it stands there. Text that no sound
    ///    follows for PatienceSeconds, or when the turn is over, is shown by itself.
    /// 4. An interrupted answer stays as it stands: about as much as was heard. The next answer replaces it.
    /// </remarks>
    public sealed class Subtitles
    {
        private const double LeastPace = 5;
        private const double MostPace = 40;
        private const double LeastMeasuredMs = 2000;

        private readonly List<Answer> answers = new List<Answer>(); // the first is the one that is shown

        /// <summary>The pace of the voice; a Chinese or Japanese character counts for three.</summary>
        public double CharactersPerSecond { get; set; } = 14;

        public double DrySeconds { get; set; } = 0.5;

        /// <summary>0 for a flow that gives no sound: text is then shown as it comes.</summary>
        public double PatienceSeconds { get; set; } = 3;

        /// <summary>What to show now.</summary>
        public string Text
        {
            get { return answers.Count == 0 ? "" : answers[0].Shown; }
        }

        /// <summary>A piece of text came, at `now` in seconds of any clock that does not stand still.</summary>
        public void Add(TextEvent text, double now)
        {
            Of(text).Add(text, now);
        }

        /// <summary>A sound was given to the player.</summary>
        public void Add(SoundEvent sound)
        {
            Of(sound).Add(sound);
        }

        /// <summary>So much of a sound was heard.</summary>
        public void Heard(SoundEvent sound, double ms, double now)
        {
            var answer = Of(sound);
            while (answers[0] != answer)
                Leave();
            answer.Heard(sound, ms, CharactersPerSecond, now);
        }

        /// <summary>A run was interrupted: no more of it is shown.</summary>
        public void Cut(InterruptedEvent interrupted)
        {
            Cut(answer => answer.IsOf(interrupted));
        }

        /// <summary>The player was stopped: no more is shown of what it held.</summary>
        public void CutUnheard()
        {
            Cut(answer => answer.HasSound && !answer.IsHeard);
        }

        /// <summary>Everything was interrupted.</summary>
        public void CutAll()
        {
            Cut(_ => true);
        }

        /// <summary>All turns are over: what there is, is whole.</summary>
        public void End()
        {
            foreach (var answer in answers)
                answer.IsWhole = true;
        }

        /// <summary>Show what is due now.</summary>
        public void Tick(double now)
        {
            if (answers.Count == 0)
                return;
            var isNextDue = answers.Count > 1 && !answers[1].HasSound && answers[1].HasWaitedSince(now - PatienceSeconds);
            if (isNextDue && !IsAwaited(answers[0]))
                Leave();
            var answer = answers[0];
            if (IsAwaited(answer))
                return;
            if (answer.IsWhole)
                answer.ShowAll();
            if (answer.HasSound && now >= answer.HeardAt + DrySeconds)
                answer.ShowSpoken();
            answer.ShowUntil(now - PatienceSeconds);
        }

        /// <summary>Is there sound of it that will yet be heard?</summary>
        private static bool IsAwaited(Answer answer)
        {
            return answer.HasSound && !answer.IsHeard && !answer.IsCut;
        }

        private void Cut(Predicate<Answer> isMeant)
        {
            for (var i = answers.Count - 1; i >= 0; i--)
            {
                if (!isMeant(answers[i]))
                    continue;
                answers[i].IsCut = true;
                if (i > 0)
                    answers.RemoveAt(i);
            }
        }

        /// <summary>Show the next answer in place of the first.</summary>
        private void Leave()
        {
            var left = answers[0];
            answers.RemoveAt(0);
            if (!left.IsCut && left.IsHeard && left.SoundMs >= LeastMeasuredMs && left.Pace > 0)
                CharactersPerSecond = Math.Min(MostPace, Math.Max(LeastPace, left.Pace));
        }

        private Answer Of(TurnEvent came)
        {
            var answer = answers.Find(each => each.IsOf(came) && !each.IsCut);
            if (answer == null)
            {
                End(); // runs follow one another
                answer = new Answer(came);
                answers.Add(answer);
            }
            return answer;
        }
    }
}
