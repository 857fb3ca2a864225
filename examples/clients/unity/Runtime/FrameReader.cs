using System;
using System.Collections.Generic;
using System.IO;
using System.Net.WebSockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Ezflow
{
    /// <summary>Whole messages of a WebSocket.</summary>
    internal sealed class FrameReader
    {
        private const int MaxBytes = 64 * 1024 * 1024;

        private readonly WebSocket socket;
        private readonly byte[] piece = new byte[64 * 1024];

        internal FrameReader(WebSocket socket)
        {
            this.socket = socket;
        }

        /// <summary>The next message, an object. Throws ClosedException, ProtocolException.</summary>
        internal async Task<Dictionary<string, object>> NextObject(CancellationToken cancelled)
        {
            var bytes = await Next(WebSocketMessageType.Text, cancelled).ConfigureAwait(false);
            return EventReader.Parse(Encoding.UTF8.GetString(bytes));
        }

        /// <summary>The binary message that follows an audio event. Throws ClosedException, ProtocolException.</summary>
        internal async Task ReadSound(SoundEvent sound, int bytes, CancellationToken cancelled)
        {
            var pcm = await Next(WebSocketMessageType.Binary, cancelled).ConfigureAwait(false);
            if (pcm.Length != bytes)
                throw new ProtocolException(bytes + " bytes of sound were announced, and " + pcm.Length + " came");
            EventReader.WithPcm(sound, pcm);
        }

        private async Task<byte[]> Next(WebSocketMessageType expected, CancellationToken cancelled)
        {
            using (var message = new MemoryStream())
            {
                while (true)
                {
                    var got = await socket.ReceiveAsync(new ArraySegment<byte>(piece), cancelled).ConfigureAwait(false);
                    if (got.MessageType == WebSocketMessageType.Close)
                        throw new ClosedException((int)(got.CloseStatus ?? WebSocketCloseStatus.Empty), got.CloseStatusDescription);
                    if (got.MessageType != expected)
                        throw new ProtocolException("a " + got.MessageType + " frame came where a " + expected + " frame is due");
                    message.Write(piece, 0, got.Count);
                    if (message.Length > MaxBytes)
                        throw new ProtocolException("the server sent a message of more than " + MaxBytes + " bytes");
                    if (got.EndOfMessage)
                        return message.ToArray();
                }
            }
        }
    }
}
