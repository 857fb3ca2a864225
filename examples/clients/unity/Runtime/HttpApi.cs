using System;
using System.Collections.Generic;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Ezflow
{
    /// <summary>Requests to the server, and what it says when it refuses one.</summary>
    internal sealed class HttpApi : IDisposable
    {
        // Each running turn has a connection; Unity's HttpClient would otherwise stop at two.
        private const int MostConnections = 16;

        private readonly string url;
        private readonly HttpClient http;

        internal HttpApi(string url, string token)
        {
            this.url = url;
            http = new HttpClient(new HttpClientHandler { MaxConnectionsPerServer = MostConnections })
            {
                Timeout = Timeout.InfiniteTimeSpan, // a turn may be silent for long: the server has its own limits
            };
            if (token != null)
                http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
        }

        /// <summary>
        /// Send a request: returns when the head of the answer is here. Throws RefusedException, ClosedException.
        /// </summary>
        internal async Task<HttpResponseMessage> Send(HttpMethod method, string path, object body, CancellationToken cancelled)
        {
            var response = await Head(method, path, body, cancelled).ConfigureAwait(false);
            if (response.IsSuccessStatusCode)
                return response;
            using (response)
                throw Refusal(response, await response.Content.ReadAsStringAsync().ConfigureAwait(false));
        }

        /// <summary>Send a request and read the answer, an object. Throws RefusedException, ClosedException, ProtocolException.</summary>
        internal async Task<Dictionary<string, object>> Get(HttpMethod method, string path, object body, CancellationToken cancelled)
        {
            using (var response = await Send(method, path, body, cancelled).ConfigureAwait(false))
                return EventReader.Parse(await response.Content.ReadAsStringAsync().ConfigureAwait(false));
        }

        public void Dispose()
        {
            http.Dispose();
        }

        private async Task<HttpResponseMessage> Head(HttpMethod method, string path, object body, CancellationToken cancelled)
        {
            using (var request = new HttpRequestMessage(method, url + path))
            {
                if (body != null)
                    request.Content = new StringContent(Json.Write(body), Encoding.UTF8, "application/json");
                try
                {
                    return await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancelled).ConfigureAwait(false);
                }
                catch (HttpRequestException error)
                {
                    throw new ClosedException(ClosedException.Lost, "no answer from " + url + ": " + error.Message, error);
                }
            }
        }

        private static RefusedException Refusal(HttpResponseMessage response, string body)
        {
            var said = new Dictionary<string, object>();
            try
            {
                said = Json.ReadObject(body);
            }
            catch (FormatException)
            {
                // A proxy's page, say: the status has to do.
            }
            return new RefusedException(
                (int)response.StatusCode,
                EventReader.Maybe<string>(said, "error") ?? response.StatusCode.ToString(),
                EventReader.Maybe<string>(said, "path"),
                EventReader.Maybe<string>(said, "message") ?? EventReader.Maybe<string>(said, "detail") ?? "the server answered " + (int)response.StatusCode,
                response.Headers.RetryAfter?.Delta?.TotalSeconds);
        }
    }
}
