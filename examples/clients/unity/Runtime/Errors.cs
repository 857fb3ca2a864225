using System;

namespace Ezflow
{
    /// <summary>What can end a turn, or a request, before its time.</summary>
    /// <remarks>RefusedException, ClosedException and ProtocolException are all there is.</remarks>
    public abstract class EzflowException : Exception
    {
        protected EzflowException(string message, Exception cause)
            : base(message, cause)
        {
        }
    }

    /// <summary>The server does not do what was asked for, and says why.</summary>
    public sealed class RefusedException : EzflowException
    {
        public RefusedException(int status, string error, string path, string message, double? retryAfterSeconds)
            : base(message, null)
        {
            Status = status;
            Error = error;
            Path = path;
            RetryAfterSeconds = retryAfterSeconds;
        }

        /// <summary>The HTTP status; 0 where it was said over a WebSocket.</summary>
        public int Status { get; }

        /// <summary>The name of the error, such as EntryError.</summary>
        public string Error { get; }

        /// <summary>The field that does not fit, such as options.LLM.temperature; null if it is none's fault.</summary>
        public string Path { get; }

        /// <summary>When to ask again, if the server said so.</summary>
        public double? RetryAfterSeconds { get; }
    }

    /// <summary>The connection ended before the turn did, or could not be made.</summary>
    public sealed class ClosedException : EzflowException
    {
        /// <summary>The code of a connection that was lost, or never made: no server sends it.</summary>
        public const int Lost = 1006;

        public ClosedException(int code, string reason, Exception cause = null)
            : base("closed (" + code + "): " + (string.IsNullOrEmpty(reason) ? "no reason was given" : reason), cause)
        {
            Code = code;
            Reason = reason ?? "";
        }

        /// <summary>A WebSocket's closing code: 1001 shutdown, 1008 not allowed, 1013 full; or Lost.</summary>
        public int Code { get; }

        public string Reason { get; }
    }

    /// <summary>What came is not ezflow's protocol: most likely another server is listening there.</summary>
    public sealed class ProtocolException : EzflowException
    {
        public ProtocolException(string message, Exception cause = null)
            : base(message, cause)
        {
        }
    }
}
