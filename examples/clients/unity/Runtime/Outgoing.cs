using System.Collections.Generic;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Ezflow
{
    /// <summary>Frames for the server that wait to be sent: a WebSocket sends one at a time, and Update() does not wait.</summary>
    internal sealed class Outgoing
    {
        internal const int MostFrames = 1024;
        internal const int MostBytes = 1024 * 1024;

        private readonly Queue<Frame> inputs = new Queue<Frame>();
        private readonly Queue<Frame> reports = new Queue<Frame>();
        private readonly Queue<Frame> interrupts = new Queue<Frame>();
        private readonly Signals signals = new Signals();
        private int bytes;

        internal struct Frame
        {
            internal byte[] Bytes;
            internal bool IsText;
        }

        /// <summary>Hold input; false if there is no room for it.</summary>
        internal bool Put(Frame frame)
        {
            lock (signals.Gate)
            {
                if (inputs.Count >= MostFrames || (inputs.Count > 0 && bytes + frame.Bytes.Length > MostBytes))
                    return false;
                inputs.Enqueue(frame);
                bytes += frame.Bytes.Length;
            }
            signals.Changed();
            return true;
        }

        /// <summary>Hold the end of the input, for which there is always room.</summary>
        internal void PutEnd(Frame frame)
        {
            lock (signals.Gate)
            {
                inputs.Enqueue(frame);
                bytes += frame.Bytes.Length;
            }
            signals.Changed();
        }

        /// <summary>Hold a report of what was heard, which goes before all else. The oldest give way to it.</summary>
        internal void PutReport(Frame frame)
        {
            lock (signals.Gate)
            {
                if (reports.Count >= MostFrames)
                    reports.Dequeue(); // nothing is being sent at all
                reports.Enqueue(frame);
            }
            signals.Changed();
        }

        /// <summary>Hold an interruption, which goes before all input. For one there is always room; two are as one.</summary>
        internal void PutInterrupt(Frame frame)
        {
            lock (signals.Gate)
            {
                if (interrupts.Count == 0)
                    interrupts.Enqueue(frame);
            }
            signals.Changed();
        }

        internal async Task<Frame> Take(CancellationToken cancelled)
        {
            while (true)
            {
                var more = signals.Next();
                lock (signals.Gate)
                {
                    if (reports.Count > 0)
                        return reports.Dequeue();
                    if (interrupts.Count > 0)
                        return interrupts.Dequeue();
                    if (inputs.Count > 0)
                    {
                        var first = inputs.Dequeue();
                        bytes -= first.Bytes.Length;
                        return first;
                    }
                }
                await Signals.Wait(more, cancelled).ConfigureAwait(false);
            }
        }

        internal static Frame Text(Dictionary<string, object> json)
        {
            return new Frame { Bytes = Encoding.UTF8.GetBytes(Json.Write(json)), IsText = true };
        }
    }
}
