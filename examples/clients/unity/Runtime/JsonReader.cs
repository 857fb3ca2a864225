using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Ezflow
{
    /// <summary>One pass over a JSON text.</summary>
    internal sealed class JsonReader
    {
        private readonly string text;
        private int at;
        private int depth;

        internal JsonReader(string text)
        {
            this.text = text ?? throw new ArgumentNullException(nameof(text));
        }

        internal object Whole()
        {
            var value = Value();
            SkipSpace();
            if (at < text.Length)
                throw Wrong("the end");
            return value;
        }

        private object Value()
        {
            SkipSpace();
            switch (Peek())
            {
                case '{':
                    return Nested(Object);
                case '[':
                    return Nested(Array);
                case '"':
                    return String();
                case 't':
                    return Word("true", true);
                case 'f':
                    return Word("false", false);
                case 'n':
                    return Word("null", null);
                default:
                    return Number();
            }
        }

        private object Nested(Func<object> read)
        {
            if (++depth > Json.MaxDepth)
                throw Wrong("at most " + Json.MaxDepth + " levels");
            at++;
            var value = read();
            depth--;
            return value;
        }

        private object Object()
        {
            var map = new Dictionary<string, object>();
            SkipSpace();
            if (Take('}'))
                return map;
            do
            {
                SkipSpace();
                if (Peek() != '"')
                    throw Wrong("a key");
                var key = String();
                SkipSpace();
                if (!Take(':'))
                    throw Wrong("':'");
                map[key] = Value();
                SkipSpace();
            }
            while (Take(','));
            if (!Take('}'))
                throw Wrong("',' or '}'");
            return map;
        }

        private object Array()
        {
            var list = new List<object>();
            SkipSpace();
            if (Take(']'))
                return list;
            do
            {
                list.Add(Value());
                SkipSpace();
            }
            while (Take(','));
            if (!Take(']'))
                throw Wrong("',' or ']'");
            return list;
        }

        private string String()
        {
            var begin = ++at;
            while (at < text.Length && text[at] != '"' && text[at] != '\\' && text[at] >= ' ')
                at++;
            if (Take('"')) // nothing to unescape: base64 of a sound comes this way
                return text.Substring(begin, at - 1 - begin);
            var words = new StringBuilder(text, begin, at - begin, Math.Max(16, 2 * (at - begin)));
            while (!Take('"'))
            {
                var letter = Peek();
                if (letter < ' ')
                    throw Wrong("a character of a string");
                at++;
                words.Append(letter == '\\' ? Escaped() : letter);
            }
            return words.ToString();
        }

        private char Escaped()
        {
            const string marks = "\"\\/bfnrt";
            const string meanings = "\"\\/\b\f\n\r\t";
            if (Take('u'))
                return Hex();
            var which = marks.IndexOf(Peek());
            if (which < 0)
                throw Wrong("an escape");
            at++;
            return meanings[which];
        }

        private char Hex()
        {
            var value = 0;
            for (var i = 0; i < 4; i++, at++)
            {
                if (!Uri.IsHexDigit(Peek()))
                    throw Wrong("four hexadecimal digits");
                value = 16 * value + Uri.FromHex(Peek());
            }
            return (char)value;
        }

        private object Number()
        {
            var begin = at;
            Take('-');
            if (!Take('0'))
                Digits();
            var whole = true;
            if (Take('.'))
            {
                Digits();
                whole = false;
            }
            if (Take('e') || Take('E'))
            {
                if (!Take('+'))
                    Take('-');
                Digits();
                whole = false;
            }
            var digits = text.Substring(begin, at - begin);
            if (whole && long.TryParse(digits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var count))
                return count;
            return double.Parse(digits, NumberStyles.Float, CultureInfo.InvariantCulture);
        }

        private void Digits()
        {
            if (!IsDigit(Peek()))
                throw Wrong("a value");
            while (IsDigit(Peek()))
                at++;
        }

        private static bool IsDigit(char letter)
        {
            return letter >= '0' && letter <= '9';
        }

        private object Word(string word, object value)
        {
            if (string.CompareOrdinal(text, at, word, 0, word.Length) != 0)
                throw Wrong("a value");
            at += word.Length;
            return value;
        }

        private void SkipSpace()
        {
            while (at < text.Length && " \t\n\r".IndexOf(text[at]) >= 0)
                at++;
        }

        /// <summary>The next character; NUL, which no JSON holds, at the end.</summary>
        private char Peek()
        {
            return at < text.Length ? text[at] : '\0';
        }

        private bool Take(char letter)
        {
            if (at >= text.Length || text[at] != letter)
                return false;
            at++;
            return true;
        }

        private FormatException Wrong(string needed)
        {
            var found = at < text.Length ? "'" + text[at] + "'" : "the end";
            return new FormatException("JSON: " + needed + " is needed at character " + at + ", not " + found);
        }
    }
}
