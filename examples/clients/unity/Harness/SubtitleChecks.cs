using System;

namespace Ezflow.Harness
{
    internal static class SubtitleChecks
    {
        private const string First = "Spiders have eight legs. ";
        private const string Second = "Insects have six of them.";

        /// <summary>Subtitles, a player, and one clock for both, at 10 characters a second.</summary>
        private sealed class Stage
        {
            internal readonly Subtitles Subtitles = new Subtitles { CharactersPerSecond = 10 };
            internal readonly VirtualOutput Output = new VirtualOutput();
            private double now;
            private int seq;

            internal Stage()
            {
                Output.Played += (sound, ms) => Subtitles.Heard(sound, ms, now);
            }

            internal string Shown
            {
                get { return Subtitles.Text; }
            }

            internal int Run { get; set; }

            internal void Text(string text)
            {
                Subtitles.Add(new TextEvent { Text = text, Seq = ++seq, Run = Run }, now);
            }

            internal SoundEvent Sound(double seconds)
            {
                var sound = new SoundEvent { Pcm = new byte[2 * (int)(1000 * seconds)], RateHz = 1000, Channels = 1, Seq = ++seq, Run = Run };
                Subtitles.Add(sound);
                Output.Play(sound);
                return sound;
            }

            internal void Pass(double seconds)
            {
                for (var end = now + seconds; now < end - 1e-9;)
                {
                    var step = Math.Min(0.05, end - now);
                    now += step;
                    Output.Hear(1000 * step);
                    Subtitles.Tick(now);
                }
            }
        }

        [Check]
        private static void TextIsNotShownBeforeTheSoundOfItBegins()
        {
            var stage = new Stage();
            stage.Text(First);
            stage.Pass(1);
            Checks.Equal("", stage.Shown);
            stage.Sound(2.5);
            stage.Pass(0.1);
            Checks.Equal("Spiders", stage.Shown);
        }

        [Check]
        private static void WordsAppearAtThePaceOfTheVoice()
        {
            var stage = new Stage();
            stage.Text(First);
            stage.Sound(2.5);
            stage.Pass(1);
            Checks.Equal("Spiders have", stage.Shown);
            stage.Pass(1.5);
            Checks.Equal(First.TrimEnd(), stage.Shown.TrimEnd());
        }

        [Check]
        private static void TextThatCameAfterASoundIsNotShownWhileItPlays()
        {
            var stage = new Stage();
            stage.Subtitles.CharactersPerSecond = 30;
            stage.Text(First);
            stage.Sound(2.5);
            stage.Text(Second);
            stage.Pass(2);
            Checks.Equal(First, stage.Shown);
            stage.Sound(2.5);
            stage.Pass(1);
            Checks.True(stage.Shown.StartsWith(First + "Insects"), stage.Shown);
        }

        [Check]
        private static void WhenTheSoundHasRunOutAllThatItSaidStandsThere()
        {
            var stage = new Stage();
            stage.Subtitles.CharactersPerSecond = 5;
            stage.Text(First);
            stage.Sound(1);
            stage.Pass(1);
            Checks.Equal("Spiders", stage.Shown);
            stage.Text(Second);
            stage.Pass(0.6);
            Checks.Equal(First, stage.Shown);
        }

        [Check]
        private static void TextWithoutSoundIsShownAfterAWhile()
        {
            var stage = new Stage();
            stage.Text("Hello ");
            stage.Pass(2);
            stage.Text("there.");
            stage.Pass(0.9);
            Checks.Equal("", stage.Shown);
            stage.Pass(0.2);
            Checks.Equal("Hello ", stage.Shown);
            stage.Pass(2);
            Checks.Equal("Hello there.", stage.Shown);
        }

        [Check]
        private static void WithoutPatienceTextIsShownAsItComes()
        {
            var stage = new Stage();
            stage.Subtitles.PatienceSeconds = 0;
            stage.Text("Hello ");
            stage.Pass(0.05);
            Checks.Equal("Hello ", stage.Shown);
        }

        [Check]
        private static void AtTheEndOfTheTurnTheRestIsShown()
        {
            var stage = new Stage();
            stage.Text(First);
            stage.Sound(1);
            stage.Text("(laughs)");
            stage.Subtitles.End();
            stage.Pass(1.05);
            Checks.Equal(First + "(laughs)", stage.Shown);
        }

        [Check]
        private static void ThePaceIsMeasuredInAnswersThatWereHeardToTheirEnd()
        {
            var stage = new Stage();
            stage.Run = 1;
            stage.Text(First + Second);
            stage.Sound(2.5);
            stage.Pass(4);
            stage.Run = 2;
            stage.Text("Next.");
            stage.Sound(0.5);
            stage.Pass(0.1);
            Checks.Equal(20.0, stage.Subtitles.CharactersPerSecond);
            Checks.Equal("Next.", stage.Shown);
        }

        [Check]
        private static void AnInterruptedAnswerStaysAsItWasHeard()
        {
            var stage = new Stage();
            stage.Run = 1;
            stage.Text(First + Second);
            stage.Sound(5);
            stage.Pass(1);
            stage.Output.Stop();
            stage.Subtitles.Cut(new InterruptedEvent { Run = 1 });
            stage.Pass(10);
            Checks.Equal("Spiders have", stage.Shown);
            Checks.Equal(10.0, stage.Subtitles.CharactersPerSecond);
            stage.Run = 2;
            stage.Text("Yes?");
            stage.Pass(1);
            Checks.Equal("Spiders have", stage.Shown);
            stage.Sound(1);
            stage.Pass(0.1);
            Checks.Equal("Yes?", stage.Shown);
        }

        [Check]
        private static void AChineseCharacterTakesAsLongAsThreeLatinOnes()
        {
            var stage = new Stage();
            stage.Text("蜘蛛有八条腿。");
            stage.Sound(2.1);
            stage.Pass(0.6);
            Checks.Equal("蜘蛛", stage.Shown);
        }

        [Check]
        private static void AnEmojiIsNeverShownByHalf()
        {
            var stage = new Stage();
            stage.Text("😀😀 ok");
            stage.Sound(0.7);
            for (var i = 0; i < 14; i++)
            {
                stage.Pass(0.05);
                Checks.True(stage.Shown.Length == 0 || !char.IsHighSurrogate(stage.Shown[stage.Shown.Length - 1]), stage.Shown);
            }
        }
    }
}
