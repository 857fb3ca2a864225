using System;
using System.IO;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Ezflow
{
    /// <summary>Lines of UTF-8 out of a stream, each as soon as its end has come, wherever the pieces were cut.</summary>
    internal sealed class LineReader
    {
        internal const int MaxLineBytes = 64 * 1024 * 1024;

        // A read that is cancelled closes the connection only if it had to wait. What has come already is read first.
        private const int MostPieces = 256;

        private readonly Stream stream;
        private byte[] buffer = new byte[64 * 1024];
        private int begin;
        private int end;
        private int searched;

        internal LineReader(Stream stream)
        {
            this.stream = stream;
        }

        /// <summary>The next line without its end; null at the end of the stream. Throws ProtocolException if it is too long.</summary>
        internal async Task<string> Next(CancellationToken cancelled)
        {
            while (true)
            {
                var found = Array.IndexOf(buffer, (byte)'\n', searched, end - searched);
                if (found >= 0)
                {
                    var line = Encoding.UTF8.GetString(buffer, begin, found - begin);
                    begin = searched = found + 1;
                    return line;
                }
                searched = end;
                MakeRoom();
                var count = await stream.ReadAsync(buffer, end, buffer.Length - end, cancelled).ConfigureAwait(false);
                if (count == 0)
                    return null;
                end += count;
            }
        }

        /// <summary>Have the connection closed at once.</summary>
        /// <remarks>
        /// Disposing of a response that has not ended reads on for two seconds, in the hope of using the connection
        /// again (so mono's HttpClient and .NET's): meanwhile the server would go on with the turn.
        /// </remarks>
        internal async Task Break()
        {
            for (var pieces = 0; pieces < MostPieces; pieces++)
            {
                using (var leaving = new CancellationTokenSource())
                {
                    var read = stream.ReadAsync(buffer, 0, buffer.Length, leaving.Token);
                    leaving.Cancel();
                    try
                    {
                        if (await read.ConfigureAwait(false) == 0)
                            return;
                    }
                    catch (Exception error) when (error is OperationCanceledException || error is IOException || error is ObjectDisposedException)
                    {
                        return;
                    }
                }
            }
        }

        private void MakeRoom()
        {
            if (end < buffer.Length)
                return;
            if (begin == 0 && buffer.Length >= MaxLineBytes)
                throw new ProtocolException("the server sent a line of more than " + MaxLineBytes + " bytes");
            var into = begin > buffer.Length / 2 ? buffer : new byte[2 * buffer.Length];
            Buffer.BlockCopy(buffer, begin, into, 0, end - begin);
            buffer = into;
            end -= begin;
            searched -= begin;
            begin = 0;
        }
    }
}
