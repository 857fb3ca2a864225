using System.Threading;
using System.Threading.Tasks;

namespace Ezflow
{
    /// <summary>The one lock of a turn, and a way to wait until something under it has changed.</summary>
    internal sealed class Signals
    {
        internal readonly object Gate = new object();
        private TaskCompletionSource<bool> next = Fresh();

        /// <summary>A task that completes at the change after this call: ask first, then look, then wait.</summary>
        internal Task Next()
        {
            lock (Gate)
                return next.Task;
        }

        /// <summary>Wake who waits.</summary>
        internal void Changed()
        {
            TaskCompletionSource<bool> due;
            lock (Gate)
            {
                due = next;
                next = Fresh();
            }
            due.TrySetResult(true);
        }

        /// <summary>Wait for a task. Throws OperationCanceledException when the token says so.</summary>
        internal static async Task Wait(Task task, CancellationToken cancelled)
        {
            var stopped = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
            using (cancelled.Register(() => stopped.TrySetResult(true)))
                await Task.WhenAny(task, stopped.Task).ConfigureAwait(false);
            cancelled.ThrowIfCancellationRequested();
        }

        // Else those who wait would go on in the midst of the one who wakes them, on the game's main thread perhaps.
        private static TaskCompletionSource<bool> Fresh()
        {
            return new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }
}
