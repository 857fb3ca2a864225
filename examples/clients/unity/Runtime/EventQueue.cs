using System;
using System.Collections.Generic;

namespace Ezflow
{
    /// <summary>
    /// The events of one type that a turn has received and nobody has taken yet, oldest first. Any thread may take.
    /// </summary>
    /// <remarks>
    /// It is bounded: when it is full, the turn reads no further until something is taken, and the server's turn
    /// waits. So take from every queue of a turn, or say Ignore() of those that you do not want.
    /// </remarks>
    public sealed class EventQueue<T>
        where T : TurnEvent
    {
        private readonly Queue<T> held = new Queue<T>();
        private readonly Signals signals;
        private readonly int most;
        private readonly Func<T, long> size;
        private readonly long mostBytes;
        private readonly bool dropsOldest;
        private long bytes;
        private bool ignored;

        internal EventQueue(Signals signals, int most, bool dropsOldest = false, Func<T, long> size = null, long mostBytes = long.MaxValue)
        {
            this.signals = signals;
            this.most = most;
            this.dropsOldest = dropsOldest;
            this.size = size ?? (_ => 0);
            this.mostBytes = mostBytes;
        }

        public int Count
        {
            get
            {
                lock (signals.Gate)
                    return held.Count;
            }
        }

        /// <summary>Take the oldest. Never waits: false if there is none.</summary>
        public bool TryTake(out T taken)
        {
            lock (signals.Gate)
            {
                taken = null;
                if (held.Count == 0)
                    return false;
                taken = Dequeue();
            }
            signals.Changed();
            return true;
        }

        /// <summary>Drop what is here and all that comes.</summary>
        public void Ignore()
        {
            lock (signals.Gate)
            {
                ignored = true;
                Clear();
            }
            signals.Changed();
        }

        /// <summary>Hold an event, under the gate. False if there is no room.</summary>
        internal bool Offer(T offered)
        {
            if (ignored)
                return true;
            if (dropsOldest && held.Count >= most)
                Dequeue();
            if (held.Count >= most || (held.Count > 0 && bytes + size(offered) > mostBytes))
                return false;
            held.Enqueue(offered);
            bytes += size(offered);
            return true;
        }

        /// <summary>Drop what is of that run, under the gate.</summary>
        internal void Drop(int run)
        {
            for (var left = held.Count; left > 0; left--)
            {
                var first = Dequeue();
                if (first.Run != run)
                    Offer(first);
            }
        }

        /// <summary>Drop everything, under the gate.</summary>
        internal void Clear()
        {
            held.Clear();
            bytes = 0;
        }

        private T Dequeue()
        {
            var first = held.Dequeue();
            bytes -= size(first);
            return first;
        }
    }
}
