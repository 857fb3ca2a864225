using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using System.Threading.Tasks;

namespace Ezflow.Harness
{
    /// <summary>`Checks.exe NAME [URL]`: one check of the client's own parts; exit code 0 if it holds. Without a name, lists them.</summary>
    internal static class Checks
    {
        private static int Main(string[] arguments)
        {
            var checks = new[] { typeof(JsonChecks), typeof(QueueChecks), typeof(SubtitleChecks), typeof(ConversationChecks) }
                .SelectMany(each => each.GetMethods(BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.DeclaredOnly))
                .Where(each => each.GetCustomAttribute<CheckAttribute>() != null)
                .ToDictionary(each => each.Name);
            if (arguments.Length == 0)
            {
                foreach (var name in checks.Keys)
                    Console.WriteLine(name);
                return 0;
            }
            var check = checks[arguments[0]];
            var rest = check.GetParameters().Select((_, i) => (object)arguments[i + 1]).ToArray();
            (check.Invoke(null, rest) as Task)?.GetAwaiter().GetResult();
            return 0;
        }

        internal static void Equal<T>(T expected, T found)
        {
            if (!EqualityComparer<T>.Default.Equals(expected, found))
                throw new InvalidOperationException("expected " + expected + ", found " + found);
        }

        internal static void True(bool holds, string what)
        {
            if (!holds)
                throw new InvalidOperationException("does not hold: " + what);
        }

        internal static void Throws<T>(Action act, string what)
            where T : Exception
        {
            try
            {
                act();
            }
            catch (T)
            {
                return;
            }
            throw new InvalidOperationException("no " + typeof(T).Name + ": " + what);
        }
    }

    [AttributeUsage(AttributeTargets.Method)]
    internal sealed class CheckAttribute : Attribute
    {
    }
}
