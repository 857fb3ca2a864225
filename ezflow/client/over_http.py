"""Requests to a server, and the lines of its streamed answers."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, cast

import trio

from .address import Address
from .errors import Closed, ConnectFailed, ProtocolError, Refused, too_large, why
from .reception import LAST_WORDS_S, Reception
from .wire import Reader, json_object

if TYPE_CHECKING:
    from httpcore2 import Response
    from trio_websocket import ConnectionRejected

__all__ = ["OverHTTP", "receive_turn"]

EXCERPT = 200


class OverHTTP:
    """The connections of a client: one for each request under way, and a few that are kept for the next.

    It stands on httpcore2, which httpx2 is made of: httpx2 2.16 leaves a generator unfinished where a stream is left
    between two pieces, and trio warns of it.
    """

    def __init__(
        self,
        address: Address,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None,
        connect_s: float,
        answer_s: float,
        limit: int,
    ) -> None:
        import httpcore2

        from .dialing import Dialing

        self._url = f"{address.scheme}://{address.netloc}"
        # httpcore2 would name an IPv6 host without its brackets.
        own = {"host": address.netloc, "accept-encoding": "identity", "user-agent": "ezflow"}
        self._headers = own | dict(headers)
        self._answer_s = answer_s
        self._limit = limit
        self._more = {"timeout": {"connect": connect_s}}
        self._no_way = (httpcore2.ConnectError, httpcore2.ConnectTimeout)
        self._faults = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException)
        self._pool = httpcore2.AsyncConnectionPool(
            tls, max_connections=None, max_keepalive_connections=4, network_backend=Dialing()
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.aclose()

    @asynccontextmanager
    async def ask(self, method: str, path: str, body: bytes = b"", accept: str = "*/*") -> AsyncGenerator[Response]:
        """An answer whose head has come. Raises: ConnectFailed; Closed."""
        headers = self._headers | {"accept": accept} | ({"content-type": "application/json"} if body else {})
        url, content = self._url + path, body or None
        try:
            async with self._pool.stream(
                method, url, headers=list(headers.items()), content=content, extensions=self._more
            ) as response:
                yield response
        except self._no_way as error:
            raise ConnectFailed(self._url, why(error)) from error
        except self._faults as error:
            raise Closed(None, why(error)) from error

    async def answer(self, method: str, path: str, body: bytes = b"", also: int = 200) -> dict[str, Any]:
        """The JSON object of an answer of status 200 or `also`. Raises: ClientError."""
        with trio.move_on_after(self._answer_s):
            async with self.ask(method, path, body) as response:
                text = await self._read(response)
            if response.status not in (200, also):
                raise refusal(response.status, headers_of(response), text)
            told = json_object(text)
            if told is None:
                raise ProtocolError(f"{path} did not answer with a JSON object: is this an ezflow server?")
            return told
        raise Closed(None, f"{path} was not answered within {self._answer_s:g} s")

    async def lines(self, response: Response) -> AsyncGenerator[bytes]:
        """Each line of an answer, as it comes."""
        rest = bytearray()
        async with _pieces(response) as pieces:
            async for piece in pieces:
                rest += piece
                if b"\n" in piece:
                    *whole, last = bytes(rest).split(b"\n")
                    rest = bytearray(last)
                    for line in whole:
                        self._check(len(line))
                        yield line
                self._check(len(rest))

    async def _read(self, response: Response) -> bytes:
        body = bytearray()
        async with _pieces(response) as pieces:
            async for piece in pieces:
                body += piece
                self._check(len(body))
        return bytes(body)

    async def accept(self, response: Response) -> None:
        """See that a stream of events begins. Raises: Refused; ProtocolError."""
        if response.status != 200:
            raise refusal(response.status, headers_of(response), await self._read(response))
        if "ndjson" not in headers_of(response).get("content-type", ""):
            raise ProtocolError("the answer is no stream of events: is this an ezflow server?")

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise too_large(self._limit)


async def receive_turn(http: OverHTTP, path: str, body: bytes, reader: Reader, to: Reception) -> None:
    """Have the server perform a turn, and hand each of its events over. Raises: ClientError."""
    async with http.ask("POST", path, body, accept="application/x-ndjson") as response:
        await http.accept(response)
        to.begins()
        async with aclosing(http.lines(response)) as lines:
            async for line in lines:
                if line:
                    await to.tell(reader.event(reader.decode(line)))
                if to.complete:
                    break
            if to.complete:  # read to its end, the connection may be used again
                with trio.move_on_after(LAST_WORDS_S):
                    async for _ in lines:
                        pass
                return
    raise Closed(None, "the server broke off in mid-turn")


def _pieces(response: Response) -> AbstractAsyncContextManager[AsyncGenerator[bytes]]:
    return aclosing(cast("AsyncGenerator[bytes]", aiter(cast("AsyncIterable[bytes]", response.stream))))


def headers_of(answer: Response | ConnectionRejected) -> dict[str, str]:
    return {name.decode().lower(): value.decode("latin-1") for name, value in answer.headers}


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    """The error for an answer that says no."""
    told = json_object(body) or {}
    text = " ".join(body[: 4 * EXCERPT].decode(errors="replace").split())[:EXCERPT]
    after = headers.get("retry-after", "")
    return Refused(
        status,
        str(told.get("error", "HTTPError")),
        str(told.get("message", told.get("detail", text or "no reason was given"))),
        str(told.get("path", "")),
        float(after) if after.isdecimal() else None,
    )
