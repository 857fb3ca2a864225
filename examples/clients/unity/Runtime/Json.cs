using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Ezflow
{
    /// <summary>
    /// Strict JSON (RFC 8259), read and written as plain values: Dictionary&lt;string, object&gt;, List&lt;object&gt;,
    /// string, long (whole numbers that fit), double, bool and null.
    /// </summary>
    /// <remarks>
    /// It is here so that the client needs no further package: JsonUtility reads no maps, Newtonsoft is a package of
    /// its own, and what finds its types by reflection is cut away by IL2CPP's stripping.
    /// </remarks>
    public static class Json
    {
        public const int MaxDepth = 64;

        /// <summary>Read one JSON value that takes up the whole text. Throws FormatException, with the position.</summary>
        public static object Read(string text)
        {
            var reader = new JsonReader(text);
            return reader.Whole();
        }

        /// <summary>Read an object. Throws FormatException if it is none.</summary>
        public static Dictionary<string, object> ReadObject(string text)
        {
            return Read(text) as Dictionary<string, object> ?? throw new FormatException("not a JSON object");
        }

        /// <summary>
        /// Write null, bool, number, string, IDictionary with string keys, or IEnumerable.
        /// Throws ArgumentException for anything else, for NaN and infinities, and for what is nested too deep.
        /// </summary>
        public static string Write(object value)
        {
            var text = new StringBuilder();
            Write(value, text, 0);
            return text.ToString();
        }

        private static void Write(object value, StringBuilder text, int depth)
        {
            if (depth > MaxDepth)
                throw new ArgumentException("nested deeper than " + MaxDepth);
            if (value == null)
                text.Append("null");
            else if (value is string words)
                WriteString(words, text);
            else if (value is bool flag)
                text.Append(flag ? "true" : "false");
            else if (value is double number)
                text.Append(Finite(number).ToString("R", CultureInfo.InvariantCulture));
            else if (value is float single)
                text.Append(((float)Finite(single)).ToString("R", CultureInfo.InvariantCulture));
            else if (value is int || value is long || value is uint || value is short || value is byte)
                text.Append(((IFormattable)value).ToString(null, CultureInfo.InvariantCulture));
            else if (value is IDictionary map)
                WriteObject(map, text, depth);
            else if (value is IEnumerable list)
                WriteArray(list, text, depth);
            else
                throw new ArgumentException(value.GetType() + " has no JSON form");
        }

        private static double Finite(double number)
        {
            if (double.IsNaN(number) || double.IsInfinity(number))
                throw new ArgumentException(number + " has no JSON form");
            return number;
        }

        private static void WriteObject(IDictionary map, StringBuilder text, int depth)
        {
            var separator = '{';
            foreach (DictionaryEntry entry in map)
            {
                text.Append(separator);
                WriteString(entry.Key as string ?? throw new ArgumentException("a key is not a string"), text);
                text.Append(':');
                Write(entry.Value, text, depth + 1);
                separator = ',';
            }
            text.Append(separator == '{' ? "{}" : "}");
        }

        private static void WriteArray(IEnumerable list, StringBuilder text, int depth)
        {
            var separator = '[';
            foreach (var item in list)
            {
                text.Append(separator);
                Write(item, text, depth + 1);
                separator = ',';
            }
            text.Append(separator == '[' ? "[]" : "]");
        }

        private static void WriteString(string words, StringBuilder text)
        {
            text.Append('"');
            foreach (var letter in words)
            {
                if (letter == '"' || letter == '\\')
                    text.Append('\\').Append(letter);
                else if (letter < ' ' || char.IsSurrogate(letter))
                    text.Append("\\u").Append(((int)letter).ToString("x4", CultureInfo.InvariantCulture));
                else
                    text.Append(letter);
            }
            text.Append('"');
        }
    }
}
