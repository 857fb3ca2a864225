using System;
using System.Text;

namespace Ezflow
{
    /// <summary>16-bit PCM as WAV files hold it.</summary>
    public static class Wav
    {
        private const int HeaderBytes = 44;

        /// <summary>A WAV file of PCM16.</summary>
        public static byte[] Write(byte[] pcm, SoundFormat format)
        {
            var wav = new byte[HeaderBytes + pcm.Length];
            Put(wav, 0, "RIFF", HeaderBytes - 8 + pcm.Length);
            Encoding.ASCII.GetBytes("WAVE", 0, 4, wav, 8);
            Put(wav, 12, "fmt ", 16);
            wav[20] = 1; // PCM
            wav[22] = (byte)format.Channels;
            Put(wav, 24, format.RateHz);
            Put(wav, 28, 2 * format.Channels * format.RateHz);
            wav[32] = (byte)(2 * format.Channels);
            wav[34] = 16;
            Put(wav, 36, "data", pcm.Length);
            Buffer.BlockCopy(pcm, 0, wav, HeaderBytes, pcm.Length);
            return wav;
        }

        /// <summary>The samples of a WAV file. Throws FormatException if they are not 16-bit PCM.</summary>
        public static byte[] Read(byte[] wav, out SoundFormat format)
        {
            format = default(SoundFormat);
            if (wav.Length < 12 || Name(wav, 0) != "RIFF" || Name(wav, 8) != "WAVE")
                throw new FormatException("not a WAV file");
            for (long at = 12; at + 8 <= wav.Length;)
            {
                var chunk = (int)at + 8;
                var length = BitConverter.ToUInt32(wav, chunk - 4);
                var here = (int)Math.Min(length, wav.Length - chunk);
                if (Name(wav, chunk - 8) == "fmt " && here >= 16)
                {
                    if (BitConverter.ToUInt16(wav, chunk + 14) != 16)
                        throw new FormatException("not a WAV of 16-bit samples");
                    format = new SoundFormat((int)BitConverter.ToUInt32(wav, chunk + 4), BitConverter.ToUInt16(wav, chunk + 2));
                }
                if (Name(wav, chunk - 8) == "data" && format.RateHz > 0 && format.Channels > 0)
                {
                    var pcm = new byte[here - here % (2 * format.Channels)];
                    Buffer.BlockCopy(wav, chunk, pcm, 0, pcm.Length);
                    return pcm;
                }
                at = chunk + length + length % 2;
            }
            throw new FormatException("a WAV file without samples");
        }

        private static string Name(byte[] wav, int at)
        {
            return Encoding.ASCII.GetString(wav, at, 4);
        }

        private static void Put(byte[] wav, int at, string name, int length)
        {
            Encoding.ASCII.GetBytes(name, 0, 4, wav, at);
            Put(wav, at + 4, length);
        }

        private static void Put(byte[] wav, int at, int value)
        {
            for (var i = 0; i < 4; i++)
                wav[at + i] = (byte)(value >> 8 * i);
        }
    }
}
