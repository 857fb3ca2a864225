"""The devices of the state machine in process: each holds its user's session, and its turns."""

from __future__ import annotations

from typing import Any

import attrs
import trio
from talk_model import Told, TurnModel

from ezflow import Session, TurnClosedError
from ezflow.open_turn import OpenTurn
from ezflow.place import Place


class Held:
    """A turn as its device holds it, and its model."""

    def __init__(self, turn: OpenTurn, model: TurnModel, is_live: bool) -> None:
        self.turn = turn
        self.model = model
        self.is_live = is_live
        self.unwanted = trio.Event()
        self.give, self._take = trio.open_memory_channel[Any](float("inf"))

    async def perform(self) -> None:
        """Have it begun, and ended when it is unwanted."""
        try:
            async with self.turn:
                await self.unwanted.wait()
        except TurnClosedError:
            assert self.model.unwanted

    async def feed(self) -> None:
        """Feed it what is given, (None, None) for the end of it."""
        try:
            async for item, entry in self._take:
                if item is None:
                    await self.turn.end()
                else:
                    await self.turn.send(item, entry)
        except TurnClosedError:
            return

    async def stop(self) -> None:
        """Have the running answer stopped."""
        try:
            await self.turn.interrupt()
        except TurnClosedError:
            assert self.model.unwanted

    def take(self, many: int) -> None:
        """Take so many of its events, if they are there."""
        for _ in range(many):
            try:
                event = self.turn.take_nowait()
            except trio.WouldBlock:
                return
            self.model.accept(Told.of(event))


class Device:
    """A connection: it holds its user's session with one flow."""

    def __init__(self, user: str, flow: str, session: Session) -> None:
        self.user = user
        self.flow = flow
        self.session = session
        self.scope = trio.CancelScope()
        self.nursery: trio.Nursery
        self.turns: list[Held] = []


@attrs.define(eq=False)
class PlaceModel:
    """A user's place: its turns, in the order in which they were begun."""

    place: Place
    turns: list[Held] = attrs.field(factory=list)
