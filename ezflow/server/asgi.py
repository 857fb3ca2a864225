"""Between the ASGI server and Quart: what Quart does for each response and each socket, with less of it."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import trio
from quart.asgi import ASGIWebsocketConnection
from quart.signals import websocket_received
from quart.wrappers.response import IterableBody
from quart_trio.asgi import TrioASGIHTTPConnection, TrioASGIWebsocketConnection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope
    from quart import Quart
    from quart.typing import ResponseTypes
    from quart_trio import QuartTrio

__all__ = ["HTTPConnection", "WebSocketConnection"]


class HTTPConnection(TrioASGIHTTPConnection):
    """Closes the body of a response also if its client has left before the head was sent."""

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes) -> None:
        if isinstance(response.response, IterableBody):
            async with aclosing(cast("AsyncGenerator[Any, None]", response.response.iter)):
                await super()._send_response(send, response)
        else:
            await super()._send_response(send, response)


class WebSocketConnection(TrioASGIWebsocketConnection):
    """Gives the application each message when it asks for one, without a task and a queue of its own between.

    A client that leaves is noticed when the application next asks for a message, or by the server.
    """

    def __init__(self, app: Quart, scope: WebsocketScope) -> None:
        self.app = cast("QuartTrio", app)
        self.scope = scope
        self._accepted = self._closed = False
        self._working = trio.CancelScope()
        self._receive: Callable[[], Awaitable[Any]]
        self.receive_channel: Any = self  # of which it is asked to `receive`

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        self._receive = receive
        with self._working:
            await ASGIWebsocketConnection.handle_websocket(self, self._create_websocket_from_scope(send), send)

    async def receive(self) -> str | bytes | None:
        """The next message. When the client has left, the application is cancelled."""
        while (event := await self._receive())["type"] != "websocket.receive":
            if event["type"] == "websocket.disconnect":
                self._working.cancel()
                await trio.sleep_forever()
        message: str | bytes | None = event.get("bytes") or event["text"]
        await websocket_received.send_async(message, _sync_wrapper=cast("Any", self.app.ensure_async))
        return message
