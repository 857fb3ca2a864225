"""`Answer`: what comes on a connection, parsed as it arrives. llhttp does it, in C; no I/O is done here."""

from __future__ import annotations

import httptools

from .errors import Broken, Unheard

__all__ = ["Answer"]

LIMIT = 64 * 1024  # bytes on end without anything of a body: a head, trailers, what may stand beside a chunk's size
SHOWN = 80  # bytes of what is no answer


class Answer:
    """The answer to one request at a time: its head, and the pieces of its body that have come and not been taken.

    `fault` is what is wrong behind those pieces. It is over when it is `complete`; if it is `clean` then, another
    request may follow on its connection.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append
        self._parser = self._new_parser()
        self._without_body = False
        self.begin("GET")

    def begin(self, method: str) -> None:
        """A request of this method is about to be sent."""
        if self._without_body:  # llhttp does not know of HEAD, and waits for the body that there never is
            self._parser = self._new_parser()
        self.pieces.clear()
        self.status = 0  # until the head has come
        self.headers: dict[str, str] = {}  # names in lower case
        self.complete = False
        self.clean = False
        self.fault: Exception | None = None
        self._without_body = method == "HEAD"
        self._opening = bytearray()  # of all that came, for who is told that it is no answer
        self._count = 0
        self._bare = 0

    def feed(self, data: bytes | bytearray) -> None:
        """Take in what has come."""
        if len(self._opening) < SHOWN:
            self._opening += data[:SHOWN]
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            line = self._opening.partition(b"\r\n")[0]
            self._spoil(str(error) if line.startswith(b"HTTP/") else f"illegal status line: {line}")
        if self.complete and len(self.pieces) > self._count:  # of what comes behind it
            del self.pieces[self._count :]
            self.clean = False
        self._bare = 0 if self.pieces else self._bare + len(data)
        if self._bare > LIMIT:
            self._spoil(f"more than {LIMIT} bytes that are no body")

    def take(self) -> bytes:
        """The pieces that have come, as one."""
        pieces = self.pieces
        taken = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return taken

    def end(self) -> None:
        """Nothing more comes: an answer that told no length is complete with it, any other is broken off."""
        if self.status and not {"content-length", "transfer-encoding"} & self.headers.keys():
            self.complete = True
        elif not self.complete:
            self.cut()

    def cut(self) -> None:
        """The connection is lost."""
        if self.fault is None:
            self.fault = Broken("broke off in the middle of its answer") if self._opening else Unheard()

    def on_message_begin(self) -> None:
        self.clean = False  # if it is complete, something comes behind it

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return  # a trailer
        key = name.lower().decode("ascii")
        text = value.strip().decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        if self.complete or self.fault is not None:
            return
        status = self._parser.get_status_code()
        version = self._parser.get_http_version()
        coding = self.headers.get("transfer-encoding", "chunked").lower()
        if status < 100 or status == 101 or version not in ("1.1", "1.0"):
            self._spoil(f"a status of {status} in version {version}")
        elif status < 200:  # 100 Continue and the like: the answer is still to come
            self.headers = {}
        elif coding != "chunked":
            self._spoil(f"a Transfer-Encoding of {coding}")
        else:
            self.status = status
            if self._without_body:
                self._over()

    def on_message_complete(self) -> None:
        if self.status and not self.complete:
            self._over()

    def _over(self) -> None:
        self.complete = True
        self.clean = self._parser.should_keep_alive()
        self._count = len(self.pieces)

    def _new_parser(self) -> httptools.HttpResponseParser:
        parser = httptools.HttpResponseParser(self)
        # What servers get wrong without harm to who asks: lines that end in LF alone, a length beside chunks, and
        # spaces behind a chunk's size.
        parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_chunked_length=True, lenient_spaces_after_chunk_size=True
        )
        return parser

    def _spoil(self, problem: str) -> None:
        """What comes is not what may come."""
        self.clean = False
        if not self.complete and self.fault is None:
            self.fault = Broken(f"does not speak HTTP/1.1: {problem}")
