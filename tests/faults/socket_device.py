"""A device of the state machine over sockets: a WebSocket, and what came of it."""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs
import trio
from reachable import Socket
from talk_model import Told, TurnModel

WRONG_ERRORS = {"BadRequest", "InputError", "EntryError"}  # of frames that fit nowhere


@attrs.define(eq=False)
class Device:
    """A WebSocket, and what came of it."""

    user: str
    flow: str
    socket: Socket
    scope: trio.CancelScope
    starts: deque[TurnModel] = attrs.field(factory=deque)  # of which nothing has been told yet
    current: TurnModel | None = None  # of which is told
    newest: TurnModel | None = None  # the last that was begun
    is_fed: bool = False  # may it be fed, as far as this client knows?
    pings: int = 0
    pongs: int = 0
    wrong: int = 0  # frames that were, and complaints about them
    complaints: int = 0
    answers: int = 0  # `interrupted` that no turn says

    def hear(self, event: dict[str, Any]) -> None:
        """Raises: AssertionError for what cannot come."""
        if event["type"] == "pong":
            self.pongs += 1
        elif event["type"] == "error" and "turn" not in event:
            self.complaints += event["error"] in WRONG_ERRORS
            assert event["error"] in {*WRONG_ERRORS, "TurnClosedError"}, event
        elif event["type"] == "interrupted" and "seq" not in event:
            self.answers += 1
        else:
            if event["type"] == "turn.started":
                assert self.current is None or self.current.is_over, event
                self.current = self.starts.popleft()
            assert self.current is not None, event
            self.current.accept(Told.of_json(event))
