"""An utterance that arrives in several requests, and the turn that listens to it meanwhile."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import trio

from ..errors import TurnClosedError
from ..events import Event
from ..items import Audio, Utterance
from ..open_turn import OpenTurn
from ..ports import assignable
from ..session import Session
from ..stage import Stage
from .ezpipe_replies import Replies

__all__ = ["Speech"]

# How long a piece's request waits for what the stages make of it. Less than the sound that clients send at once,
# so that a slow recogniser does not keep a microphone waiting.
PATIENCE_S = 0.05


class Speech:
    """An open utterance: `append` its pieces, then stream the `rest` of its turn.

    A stage that takes an Utterance follows it while it is spoken; where a detector stands behind the entry, each
    piece flows on by itself; any other stage gets the whole sound at the end. The turn begins, and ends the
    user's turn before it, with the first piece, whose options hold for all of it. An utterance that is given up
    ends with its session.
    """

    def __init__(self, session: Session, turn: OpenTurn, replies: Replies, stages: Sequence[Stage]) -> None:
        """`stages`: those of the turn, the entry first."""
        self.session = session
        self.entry = stages[0].index
        self.held_bytes = 0
        self._turn = turn
        self._replies = replies
        self._sound = bytearray()
        self._in_order = trio.Lock()
        self._ended = False
        self._begun = False
        detects = any(_gives_utterance(stage) for stage in stages)
        self._utterance = Utterance() if assignable(Utterance, stages[0].in_type) else None
        self._in_pieces = self._utterance is None and detects

    def takes(self, session: Session, entry: int) -> bool:
        """May more be appended, by this session and for this entry?"""
        return not self.over and self.session.place is session.place and self.entry == entry

    @property
    def over(self) -> bool:
        """Has its turn ended, by itself or by another one?"""
        return self._ended or self._turn.over or self.session.place.closing

    async def append(self, piece: Audio) -> list[bytes]:
        """Take a piece; give the lines that there are so far. Raises: what starting a turn raises."""
        async with self._in_order:
            if self._ended:
                return []
            if not self._in_pieces:
                self.held_bytes += len(piece.pcm)
            await self._begin()
            lines: list[bytes] = []
            while not await self._feed(piece):
                lines += await self._heard()
            return [*lines, *await self._heard(), *self._replies.partial()]

    async def rest(self) -> AsyncGenerator[bytes, None]:
        """End the utterance and give the lines of its turn, after an empty first one; left early, end the turn."""
        async with self._in_order:
            self._ended = True
            await self._begin()
            await self._end()
        async with self._turn:
            yield b""
            async for event in self._turn:
                for line in await self._replies.lines([event]):
                    yield line

    async def _begin(self) -> None:
        if self._begun:
            return
        if self._utterance is not None:
            await self._turn.send(self._utterance)
            await self._turn.end()
        else:
            await self._turn.__aenter__()  # `rest` leaves it; if that is never called, the session ends it
        self._begun = True

    async def _feed(self, piece: Audio) -> bool:
        """Has the piece been taken? A busy turn that nobody listens to may not take it."""
        if self._utterance is not None:
            self._utterance.feed(piece)
        elif self._in_pieces:
            with trio.move_on_after(PATIENCE_S) as patience:
                await self._send(piece)
            return not patience.cancelled_caught
        else:
            self._sound += piece.pcm
        return True

    async def _end(self) -> None:
        if self._utterance is not None:
            self._utterance.end()
            return
        if not self._in_pieces:
            await self._send(Audio(bytes(self._sound), 16_000))
        await self._turn.end()

    async def _send(self, sound: Audio) -> None:
        try:
            await self._turn.send(sound)
        except TurnClosedError:
            return  # the flow has taken all it wanted

    async def _heard(self) -> list[bytes]:
        """What the stages say now: all that is there, or the first that comes within the patience."""
        events: list[Event] = []
        with trio.move_on_after(PATIENCE_S) as patience:
            async for event in self._turn:
                events.append(event)
                if event.type != "turn.started":
                    patience.deadline = trio.current_time()
        return await self._replies.lines(events)


def _gives_utterance(stage: Stage) -> bool:
    return assignable(Utterance, stage.out_type) and not assignable(str, stage.out_type)
