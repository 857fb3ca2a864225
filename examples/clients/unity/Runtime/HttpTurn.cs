using System;
using System.Collections.Generic;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;

namespace Ezflow
{
    /// <summary>A one-shot turn: POST /turns, its events as lines while the later stages still work.</summary>
    internal sealed class HttpTurn : Turn
    {
        private readonly HttpApi api;

        internal HttpTurn(HttpApi api, CancellationToken cancelled)
            : base(cancelled)
        {
            this.api = api;
        }

        internal async Task Ask(string path, Dictionary<string, object> body)
        {
            using (var response = await api.Send(HttpMethod.Post, path, body, Cancelled).ConfigureAwait(false))
            using (var stream = await response.Content.ReadAsStreamAsync().ConfigureAwait(false))
            {
                var lines = new LineReader(stream);
                try
                {
                    await Follow(lines).ConfigureAwait(false);
                }
                finally
                {
                    if (Ended == null)
                        await lines.Break().ConfigureAwait(false);
                }
            }
        }

        private async Task Follow(LineReader lines)
        {
            while (Ended == null)
            {
                var line = await lines.Next(Cancelled).ConfigureAwait(false);
                if (line == null)
                    throw new ClosedException(ClosedException.Lost, "the answer broke off before the turn had ended");
                await Deliver(EventReader.Read(EventReader.Parse(line))).ConfigureAwait(false);
            }
            // To the end of the stream, so that the connection can be used again.
            while (await lines.Next(Cancelled).ConfigureAwait(false) != null)
                continue;
        }
    }
}
