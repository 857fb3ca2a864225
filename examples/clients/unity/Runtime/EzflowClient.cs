using System;
using System.Collections.Generic;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;

namespace Ezflow
{
    /// <summary>
    /// A client of an ezflow server, for one user: who has one turn at a time, a new one ends the one before.
    /// Needs no UnityEngine; everything may be called from the main thread, and nothing there waits.
    /// </summary>
    public sealed class EzflowClient : IDisposable
    {
        private readonly HttpApi api;

        /// <summary>
        /// `url` is the server's, such as http://127.0.0.1:3421, or with a flow's name at its end: http://127.0.0.1:3421/live.
        /// </summary>
        public EzflowClient(string url, string user, string token = null)
        {
            Url = url.TrimEnd('/');
            User = user;
            Token = string.IsNullOrEmpty(token) ? null : token;
            api = new HttpApi(Url, Token);
        }

        public string Url { get; }

        public string User { get; }

        public string Token { get; }

        /// <summary>
        /// One item through the flow. `input` is a string, or sound (byte[]: a WAV, or PCM16 16 kHz mono), or a JSON
        /// value as Json.Write takes it. Returns at once; what fails is the turn's Failure.
        /// </summary>
        public Turn Ask(object input, TurnRequest request = null, CancellationToken cancelled = default(CancellationToken))
        {
            var turn = new HttpTurn(api, cancelled);
            var body = (request ?? new TurnRequest()).ToJson();
            body["user"] = User;
            body["input"] = TurnRequest.Payload(input);
            // On the thread pool: not even the writing of a long recording as JSON holds up a frame of the game.
            Task.Run(() => turn.Run(() => turn.Ask(Naming("/turns"), body)));
            return turn;
        }

        /// <summary>A live turn, on 16 kHz mono if `format` does not say otherwise. Returns at once, and takes input at once.</summary>
        public LiveTurn Live(TurnRequest request = null, SoundFormat? format = null, CancellationToken cancelled = default(CancellationToken))
        {
            var turn = new LiveTurn(cancelled);
            var sound = format ?? SoundFormat.Speech;
            var start = (request ?? new TurnRequest()).ToJson();
            start["format"] = new Dictionary<string, object> { ["rate_hz"] = sound.RateHz, ["channels"] = sound.Channels };
            var url = new UriBuilder(Url + Naming("/ws"));
            url.Scheme = url.Scheme == "https" ? "wss" : "ws";
            Task.Run(() => turn.Run(() => turn.Converse(url.Uri, Token, start)));
            return turn;
        }

        /// <summary>End the user's turn, on whichever connection it runs: its number when every stage has left, null if there was none.</summary>
        public async Task<int?> Interrupt(CancellationToken cancelled = default(CancellationToken))
        {
            var body = new Dictionary<string, object> { ["user"] = User };
            var answer = await api.Get(HttpMethod.Post, Naming("/interrupt"), body, cancelled).ConfigureAwait(false);
            var turn = EventReader.Number(answer, "turn");
            return turn == 0 ? (int?)null : turn;
        }

        /// <summary>GET /flow: the stages with their types, the edges, a drawing; as Json.Read gives it.</summary>
        public Task<Dictionary<string, object>> Flow(CancellationToken cancelled = default(CancellationToken))
        {
            return api.Get(HttpMethod.Get, "/flow", null, cancelled);
        }

        /// <summary>GET /schema: the JSON Schema of `turns` (a request) or `events`.</summary>
        public Task<Dictionary<string, object>> Schema(string of, CancellationToken cancelled = default(CancellationToken))
        {
            return api.Get(HttpMethod.Get, "/schema?of=" + Uri.EscapeDataString(of), null, cancelled);
        }

        /// <summary>GET /health/ready: does all that the flows stand on answer? Throws RefusedException if not.</summary>
        public Task Ready(CancellationToken cancelled = default(CancellationToken))
        {
            return api.Get(HttpMethod.Get, "/health/ready", null, cancelled);
        }

        /// <summary>A path that names the user, though the body may too: a proxy before several servers sees no bodies.</summary>
        private string Naming(string path)
        {
            return path + "?user=" + Uri.EscapeDataString(User);
        }

        /// <summary>Gives the connections back. Turns that run should be cancelled before.</summary>
        public void Dispose()
        {
            api.Dispose();
        }
    }
}
