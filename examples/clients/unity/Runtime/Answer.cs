using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Ezflow
{
    /// <summary>One run's text and sound, and how far the text is shown.</summary>
    internal sealed class Answer
    {
        // A Chinese or Japanese character takes about as long to say as three Latin ones.
        private const int WideWeight = 3;

        private readonly StringBuilder text = new StringBuilder();
        private readonly List<Piece> pieces = new List<Piece>();
        private readonly Dictionary<int, double> heardMs = new Dictionary<int, double>();
        private double soundMs;
        private int weight;
        private int shown;
        private int shownWeight;

        internal Answer(TurnEvent first)
        {
            TurnId = first.TurnId;
            Run = first.Run;
        }

        private struct Piece
        {
            internal int Seq;
            internal int End;
            internal double At;
        }

        internal int TurnId { get; }

        internal int Run { get; }

        /// <summary>It was interrupted: no more of it is shown.</summary>
        internal bool IsCut { get; set; }

        /// <summary>All its text and sound are here.</summary>
        internal bool IsWhole { get; set; }

        /// <summary>When sound of it was last heard.</summary>
        internal double HeardAt { get; private set; }

        internal bool HasSound
        {
            get { return soundMs > 0; }
        }

        /// <summary>All sound of it that was given to the player was heard.</summary>
        internal bool IsHeard { get; private set; }

        internal string Shown
        {
            get { return text.ToString(0, shown); }
        }

        /// <summary>Characters (wide ones count for three) in a second of its sound.</summary>
        internal double Pace
        {
            get { return 1000 * weight / soundMs; }
        }

        internal double SoundMs
        {
            get { return soundMs; }
        }

        internal bool IsOf(TurnEvent other)
        {
            return other.TurnId == TurnId && other.Run == Run;
        }

        internal void Add(TextEvent piece, double now)
        {
            text.Append(piece.Text);
            foreach (var letter in piece.Text)
                weight += Weight(letter);
            pieces.Add(new Piece { Seq = piece.Seq, End = text.Length, At = now });
        }

        internal void Add(SoundEvent sound)
        {
            heardMs[sound.Seq] = 0;
            soundMs += sound.DurationMs;
            IsHeard = false;
        }

        /// <summary>Show what the sound has said by now, by the pace of the voice.</summary>
        internal void Heard(SoundEvent sound, double ms, double pace, double now)
        {
            heardMs[sound.Seq] = ms;
            var heard = 0.0;
            foreach (var each in heardMs.Values)
                heard += each;
            IsHeard = heard >= soundMs - 0.5;
            HeardAt = now;
            ShowWeight(heard / 1000 * (IsWhole ? Pace : pace), Before(sound.Seq));
        }

        internal void ShowAll()
        {
            ShowWeight(double.MaxValue, text.Length);
        }

        /// <summary>Show the text that came before its last sound.</summary>
        internal void ShowSpoken()
        {
            var last = -1;
            foreach (var seq in heardMs.Keys)
                last = Math.Max(last, seq);
            ShowWeight(double.MaxValue, Before(last));
        }

        /// <summary>Show the text that came no later than that.</summary>
        internal void ShowUntil(double at)
        {
            ShowWeight(double.MaxValue, EndOf(piece => piece.At <= at));
        }

        /// <summary>Did text of it come no later than that?</summary>
        internal bool HasWaitedSince(double at)
        {
            return EndOf(piece => piece.At <= at) > 0;
        }

        private int Before(int seq)
        {
            return EndOf(piece => piece.Seq < seq);
        }

        private int EndOf(Predicate<Piece> isMeant)
        {
            var last = pieces.FindLastIndex(isMeant);
            return last < 0 ? 0 : pieces[last].End;
        }

        /// <summary>Whole words up to that weight, and never back.</summary>
        private void ShowWeight(double upTo, int limit)
        {
            while (!IsCut && shown < limit && (shownWeight < upTo || IsWithinWord()))
                shownWeight += Weight(text[shown++]);
        }

        private bool IsWithinWord()
        {
            if (shown == 0)
                return false;
            var next = text[shown];
            if (char.IsLowSurrogate(next) || char.GetUnicodeCategory(next) == UnicodeCategory.NonSpacingMark)
                return true;
            return !char.IsWhiteSpace(text[shown - 1]) && !char.IsWhiteSpace(next) && Weight(text[shown - 1]) == 1 && Weight(next) == 1;
        }

        private static int Weight(char letter)
        {
            var wide = (letter >= '\u3040' && letter <= '\ud7ff') || (letter >= '\uf900' && letter <= '\ufaff');
            return wide ? WideWeight : 1;
        }
    }
}
