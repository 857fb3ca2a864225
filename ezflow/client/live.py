"""A live turn: what is sent feeds it while its events come, over a WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import trio

from ..errors import TurnClosedError
from ..events import Event
from ..items import Audio
from .over_websocket import OverWebSocket
from .reception import LAST_WORDS_S, Received, Reception
from .wire import as_input, as_json, whole_sound

__all__ = ["Format", "Live"]


@attrs.frozen
class Format:
    """What the bytes are that are sent: PCM16, little-endian, channels interleaved."""

    rate_hz: int = 16_000
    channels: int = 1


class Live(Received):
    """A live turn as its client holds it: `send` feeds it, a loop takes its events, each in a task of its own.

    Sending waits while the server is busy; events that nobody takes hold the server up, and a client that takes none
    for more than 40 s is taken for gone by it. To be cancelled in `send` leaves the turn whole: the input was handed
    over, or it was not.

    Speech over a reply interrupts it, where the flow has a `Latest`: `event.type == "interrupted"` says that the run
    `event.run` is over, and no event of it follows. Drop what of it is not yet played.
    """

    def __init__(self, begin: Callable[[Reception], None], begin_s: float, socket: OverWebSocket, form: Format) -> None:
        super().__init__(begin, begin_s, LAST_WORDS_S)
        self._socket = socket
        self._format = form
        self._ended = False

    @property
    def flow(self) -> Mapping[str, Any]:
        """What the server said of its flow, as `Client.flow` does."""
        return self._socket.flow

    async def send(self, data: Any, entry: int | str | None = None) -> None:
        """Feed the turn: text, an Audio, bytes (PCM16 in the turn's format, or a WAV), or any value for JSON.

        `entry` is another stage of the turn, by index or name. What does not fit, the server answers by an `error`
        event with `turn` 0, and the turn goes on. Bytes are always sound here: a stage that takes `bytes` themselves
        is sent their base64, as text.
        Raises: TurnClosedError after `end`, or when the turn is over; ClientError; ValueError for bytes that are no
        sound; TypeError or ValueError for what has no JSON form.
        """
        if self._ended:
            raise TurnClosedError("the input of this turn has ended: begin another turn.")
        form = self._format
        if isinstance(data, bytes | bytearray | memoryview):
            data = whole_sound(bytes(data), form.rate_hz, form.channels)
        if isinstance(data, Audio) and entry is None and (data.rate_hz, data.channels) == (form.rate_hz, form.channels):
            await self._say(data.pcm)
        else:
            frame = {"type": "input", "data": as_input(data)}
            await self._say(frame if entry is None else frame | {"entry": entry})

    async def end(self) -> None:
        """No more input: the turn runs out. Raises: ClientError."""
        if not self._ended:
            self._ended = True
            try:
                await self._say({"type": "end"}, late=True)
            except trio.Cancelled:
                self._ended = False
                raise

    async def interrupt(self) -> None:
        """Stop the running reply, and go on listening; an `interrupted` event says when it has stopped.

        Raises: ClientError.
        """
        await self._say({"type": "interrupt"}, late=True)

    async def played(self, event: Event, ms: float) -> None:
        """The listener has heard `ms` of an audio event: an interrupted answer's history holds that much.

        Who reports once, reports all: what is not reported then counts as unheard. Raises: ClientError.
        """
        await self._say({"type": "played", "turn": event.turn, "seq": event.seq, "ms": ms}, late=True)

    async def _say(self, what: bytes | dict[str, Any], late: bool = False) -> None:
        """Hand a frame to the task that writes; `late`: it says nothing any more to a turn that is over."""
        await self.begun()
        try:
            if self._over or self._reception.complete:
                raise trio.ClosedResourceError
            await self._socket.say.send(what if isinstance(what, bytes) else as_json(what).decode())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            if self._reception.failure is not None and not self._reception.complete:
                raise self._reception.failure from None
            if not late:
                raise TurnClosedError(f"turn {self.id} is over: begin another turn.") from None
