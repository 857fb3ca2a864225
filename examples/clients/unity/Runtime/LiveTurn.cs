using System;
using System.Collections.Generic;
using System.Net.WebSockets;
using System.Threading;
using System.Threading.Tasks;

namespace Ezflow
{
    /// <summary>
    /// A live turn over a WebSocket: you feed it while it answers, and may interrupt it. No method waits: what you
    /// send is held until it can be sent, from the first moment on.
    /// </summary>
    public sealed class LiveTurn : Turn
    {
        private const int GoodbyeMs = 1000;

        private readonly Outgoing outgoing = new Outgoing();
        private readonly TaskCompletionSource<bool> started =
            new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        private int ended;

        internal LiveTurn(CancellationToken cancelled)
            : base(cancelled)
        {
        }

        /// <summary>
        /// Feed sound, PCM16 in the format of the turn; the array is yours again. False if it was not taken: the turn's
        /// input has ended, or a megabyte waits already because the server takes no more for now.
        /// </summary>
        public bool Send(byte[] pcm)
        {
            return !InputEnded && (pcm.Length == 0 || outgoing.Put(new Outgoing.Frame { Bytes = (byte[])pcm.Clone() }));
        }

        /// <summary>Feed an item, as EzflowClient.Ask takes it, for another stage than the turn's entry if `entry` says so.</summary>
        public bool SendInput(object input, object entry = null)
        {
            var frame = Frame("input");
            frame["data"] = TurnRequest.Payload(input);
            if (entry != null)
                frame["entry"] = entry;
            return !InputEnded && outgoing.Put(Outgoing.Text(frame));
        }

        /// <summary>No more input: the turn runs out.</summary>
        public void End()
        {
            if (Interlocked.Exchange(ref ended, 1) == 0)
                outgoing.PutEnd(Outgoing.Text(Frame("end")));
        }

        /// <summary>
        /// Stop the reply and go on listening. What is queued of it goes at once; the server's answer is in
        /// Interruptions. What you send now may still belong to the reply that stops: wait for that answer.
        /// </summary>
        public void Interrupt()
        {
            Unwant();
            outgoing.PutInterrupt(Outgoing.Text(Frame("interrupt")));
        }

        /// <summary>Tell how much of a sound was heard: the history then holds what was heard of an interrupted answer.</summary>
        public void Played(SoundEvent sound, double ms)
        {
            var frame = Frame("played");
            frame["turn"] = sound.TurnId;
            frame["seq"] = sound.Seq;
            frame["ms"] = ms;
            outgoing.PutReport(Outgoing.Text(frame));
        }

        private bool InputEnded
        {
            get { return Volatile.Read(ref ended) != 0 || IsOver; }
        }

        internal async Task Converse(Uri url, string token, Dictionary<string, object> start)
        {
            start["type"] = "start";
            using (var socket = new ClientWebSocket())
            using (var over = CancellationTokenSource.CreateLinkedTokenSource(Cancelled))
            {
                if (token != null)
                    socket.Options.SetRequestHeader("Authorization", "Bearer " + token);
                await socket.ConnectAsync(url, Cancelled).ConfigureAwait(false);
                var writing = Write(socket, Outgoing.Text(start), over.Token);
                try
                {
                    await Follow(new FrameReader(socket)).ConfigureAwait(false);
                }
                finally
                {
                    over.Cancel();
                    await writing.ConfigureAwait(false);
                }
                await Close(socket).ConfigureAwait(false);
            }
        }

        /// <summary>Say goodbye, as far as that is possible without delay.</summary>
        private static async Task Close(WebSocket socket)
        {
            using (var soon = new CancellationTokenSource(GoodbyeMs))
            {
                try
                {
                    await socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, "", soon.Token).ConfigureAwait(false);
                }
                catch (Exception error) when (IsOfTheEnd(error))
                {
                    // The server was quicker.
                }
            }
        }

        private async Task Follow(FrameReader frames)
        {
            while (Ended == null)
            {
                var json = await frames.NextObject(Cancelled).ConfigureAwait(false);
                if (EventReader.Maybe<string>(json, "type") is string type && (type == "ready" || type == "pong"))
                    continue;
                var came = EventReader.Read(json);
                if (came is SoundEvent sound)
                    await frames.ReadSound(sound, EventReader.Number(json, "bytes"), Cancelled).ConfigureAwait(false);
                if (came is ErrorEvent error && Id == 0)
                    throw new RefusedException(0, error.Error, error.Path, error.Message, null);
                await Deliver(came).ConfigureAwait(false);
                if (came is StartedEvent)
                    started.TrySetResult(true);
            }
        }

        /// <summary>Send `start`, and when the turn has begun, what waits. So a complaint before that is about `start`.</summary>
        private async Task Write(WebSocket socket, Outgoing.Frame start, CancellationToken over)
        {
            try
            {
                await Send(socket, start, over).ConfigureAwait(false);
                await Signals.Wait(started.Task, over).ConfigureAwait(false);
                while (true)
                    await Send(socket, await outgoing.Take(over).ConfigureAwait(false), over).ConfigureAwait(false);
            }
            catch (Exception error) when (IsOfTheEnd(error))
            {
                // The turn is over; or the connection is, which the reader tells.
            }
        }

        /// <summary>Is it what a socket throws that is being, or has been, closed?</summary>
        private static bool IsOfTheEnd(Exception error)
        {
            return error is OperationCanceledException || error is WebSocketException || error is InvalidOperationException;
        }

        private static Task Send(WebSocket socket, Outgoing.Frame frame, CancellationToken cancelled)
        {
            var type = frame.IsText ? WebSocketMessageType.Text : WebSocketMessageType.Binary;
            return socket.SendAsync(new ArraySegment<byte>(frame.Bytes), type, true, cancelled);
        }

        private static Dictionary<string, object> Frame(string type)
        {
            return new Dictionary<string, object> { ["type"] = type };
        }
    }
}
