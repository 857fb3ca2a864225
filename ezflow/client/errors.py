"""What can go wrong between a client and its server, each with its facts as attributes.

* ClientError         (an EzflowError)
  + ConnectFailed     no connection to the server: `.url`
  + Refused           the server said no: `.status .error .message .path .retry_after_s`
  + Closed            the connection ended before the turn did: `.code .reason`
  + ProtocolError     what came is not ezflow's protocol, or is larger than the client takes (`max_message`)
  + Unread            more events wait to be taken than a live turn keeps: `.count`

What fails inside a turn is no exception: it is an event, `event.type == "error"`, and names its stage.
No error tells a token.
"""

from __future__ import annotations

from ..errors import EzflowError, flat

__all__ = ["ClientError", "Closed", "ConnectFailed", "ProtocolError", "Refused", "Unread", "too_large", "why"]

WHY = {
    1001: "the server is shutting down",
    1006: "the connection broke off",
    1008: "the server does not allow it",
    1009: "a message was too big",
    1011: "the server failed: its log says how",
    1013: "the server is full: try again later",
}


class ClientError(EzflowError):
    """Any error of a client and its connection."""


class ConnectFailed(ClientError):
    """No connection to the server could be made."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"no connection to {url}: {problem}. Is `ezflow serve` running there?")
        self.url = url
        self.problem = problem


class Refused(ClientError):
    """The server said no, and did nothing.

    `status` is HTTP's, or None over a WebSocket; `error` the kind (`EntryError`, `InputError`, `Unauthorized`, …),
    `message` what it says, `path` where what does not fit stands (`options.LLM.temperature`), or "". `retry_after_s`
    is when to come again, if the server says so.
    """

    def __init__(
        self, status: int | None, error: str, message: str, path: str = "", retry_after_s: float | None = None
    ) -> None:
        kind = f"{error} ({status})" if status is not None else error
        super().__init__(f"{kind}: {path}: {message}" if path else f"{kind}: {message}")
        self.status = status
        self.error = error
        self.message = message
        self.path = path
        self.retry_after_s = retry_after_s


class Closed(ClientError):
    """The connection ended before the turn did.

    `code` is the WebSocket's closing code (1001 at the server's shutdown, 1008 if the user or the token may not,
    1009 for a message that the server finds too big, 1013 when it is full), or None over HTTP, and where the server
    has not answered in time.
    """

    def __init__(self, code: int | None, reason: str = "") -> None:
        told = reason or WHY.get(code or 0, "the connection broke off")
        super().__init__(f"the connection was closed: {told}" if code is None else f"closed with {code}: {told}")
        self.code = code
        self.reason = told


class ProtocolError(ClientError):
    """What the server sent is not ezflow's protocol, or more than the client takes at once."""


class Unread(ClientError):
    """A script sends, and takes none of the events that come: the server would wait for it, and it for the server."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} events wait to be taken: take them between two sends (live.receive(0)), or in another thread."
        )
        self.count = count


def too_large(limit: int) -> ProtocolError:
    """A message has more bytes than the client takes."""
    return ProtocolError(f"the server sent a message of more than {limit} bytes (max_message).")


def why(error: BaseException) -> str:
    """What is at the root of a failed connection, in the system's words."""
    # httpcore2 takes its errors' cause away, but gives them what they are made of. Not by __context__: that may be
    # what a caller was handling.
    while isinstance(under := error.__cause__ or next(iter(error.args), None), BaseException):
        error = under
    return str(flat(error)[0]) or type(error).__name__
