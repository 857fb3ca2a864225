"""What the tests must know of a preset to try it on its stand-in; each other file in this folder is one such case."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ezflow import Module
from ezflow.testing.backends import Fault, StandIn
from stdlib_modules.http.errors import BackendBroken, BackendError, BackendRefused, BackendTimeout

__all__ = ["FAULTS", "NAMES", "Case", "load"]

NAMES = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem != "case")

# What a fault is to be for the client, if a case does not say otherwise: an error of that class, or None: no error,
# and the answer is as if there were no fault.
FAULTS: dict[Fault, type[BackendError] | None] = {
    Fault.TOGETHER: None,
    Fault.SPLIT: None,
    Fault.NO_END: BackendBroken,
    Fault.CUT: BackendBroken,
    Fault.ERROR_BODY: BackendRefused,
    Fault.REFUSES: BackendRefused,
    Fault.SILENT: BackendTimeout,
    Fault.GARBAGE: BackendBroken,
}


@attrs.frozen
class Case:
    """`standin(**script)` makes the server, `module(url, **settings)` the preset that speaks to it.

    `samples` are items for it. `gives` is what they give from a good server, or None where that cannot be said to the
    letter. `faults` says where a fault means something else than in FAULTS: another error, None for none, or a string
    that says why there is no such fault in this protocol. `slow` is the script of a server that has begun to answer
    and goes on for long, so that it can be interrupted. `title` is for the table, where a preset has several cases.
    `again` is the script of a server that is started anew, for those that remember what was before.
    `nth` makes an item of a number from 10 to 99, such that no two are answered alike; text need not say how.
    """

    standin: Callable[..., StandIn]
    module: Callable[..., Module[Any, Any]]
    samples: Sequence[Any]
    gives: Sequence[Any] | None = None
    faults: Mapping[Fault, type[BackendError] | str | None] = attrs.field(factory=dict)
    slow: Mapping[str, Any] = attrs.field(factory=lambda: {"each_s": 3600.0})
    options: Mapping[str, Any] = attrs.field(factory=dict)
    title: str = ""
    again: Mapping[str, Any] = attrs.field(factory=dict)
    nth: Callable[[int], Any] | None = None

    def item(self, number: int) -> Any:
        """The item of the user of that number; in a text it can be found as `no10`."""
        if self.nth is not None:
            return self.nth(number)
        assert isinstance(self.samples[0], str), "this case must say how its items are made: Case(nth=...)"
        return f"{self.samples[0]} no{number}"


def load(name: str) -> Case:
    """The case in the file of that name."""
    spec = importlib.util.spec_from_file_location(f"cases.{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    case: Case = found.CASE
    return case
