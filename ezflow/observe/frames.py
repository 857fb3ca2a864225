"""Which stage a chain of frames belongs to, and where in it the stage is."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from types import FrameType
from typing import Any

import attrs
import trio

from ..channels import Inbox, Receiver, Sender
from ..ear import Ear
from ..modules import Module
from ..stage import Stage
from ..turn import Turn

__all__ = ["Spot", "line_of", "module_in", "running_in", "spot_in", "stack_of", "waits_in"]

# Of its variables `self`, `view` and `inbox` are read.
RUN = Stage.run.__code__
WAITS = {
    Receiver.__anext__.__code__: "input",
    Receiver.drain.__code__: "input",
    Sender.send.__code__: "room",
    Ear.put.__code__: "client",
}
DEEPEST = 20
TRIO = str(PurePath(trio.__file__).parent)


@attrs.frozen(eq=False)
class Spot:
    """A stage at work in a turn, and the frames of its module and of what that calls, the innermost at last."""

    stage: Stage
    view: Turn
    inbox: Inbox[Any]
    inner: tuple[FrameType, ...]

    @property
    def at(self) -> str:
        """Where it is: the innermost line that is not trio's own."""
        return line_of(self.inner)


def spot_in(frames: Iterable[FrameType]) -> Spot | None:
    """The stage whose task these frames are, the outermost first; None if they are no stage's."""
    chain = tuple(frames)
    for number, frame in enumerate(chain):
        if frame.f_code is RUN:
            known = frame.f_locals
            if "view" in known:  # else it has only just begun
                return Spot(known["self"], known["view"], known["inbox"], chain[number + 1 :])
    return None


def line_of(frames: Sequence[FrameType]) -> str:
    """The innermost line that is not trio's own, as `file.py:12 function`."""
    for frame in reversed(frames):
        if not frame.f_code.co_filename.startswith(TRIO):
            return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
    return "?"


def stack_of(frames: Sequence[FrameType]) -> str:
    """As a traceback shows them, the last DEEPEST of them."""
    lines = [
        traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, lookup_line=False)
        for frame in frames[-DEEPEST:]
    ]
    return "".join(traceback.StackSummary.from_list(lines).format())


def running_in(thread: int | None) -> Sequence[FrameType]:
    """The frames of the task that runs in trio's thread, the outermost first; none if none does."""
    innermost = sys._current_frames().get(thread or 0)
    frames = [frame for frame, _ in traceback.walk_stack(innermost)][::-1] if innermost is not None else []
    for number, frame in enumerate(frames):
        if frame.f_code.co_name == "unrolled_run":
            return frames[number + 1 :]
    return ()


def waits_in(frames: Iterable[FrameType]) -> str | None:
    """What a stage waits for, "input", "room" or "client"; None if it is at work."""
    return next((WAITS[frame.f_code] for frame in frames if frame.f_code in WAITS), None)


def module_in(frames: Iterable[FrameType]) -> str | None:
    """The class of the innermost module whose method is among these frames, the outermost first."""
    names = [type(own).__name__ for frame in frames if isinstance(own := frame.f_locals.get("self"), Module)]
    return names[-1] if names else None
