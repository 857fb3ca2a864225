"""What tests/stdlib_modules/test_presets.py must know of a preset to try it on its stand-in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ezflow import Module
from ezflow.testing.backends import Fault, StandIn
from stdlib_modules.http.errors import BackendBroken, BackendError, BackendRefused, BackendTimeout

__all__ = ["FAULTS", "Case"]

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
    """

    standin: Callable[..., StandIn]
    module: Callable[..., Module[Any, Any]]
    samples: Sequence[Any]
    gives: Sequence[Any] | None = None
    faults: Mapping[Fault, type[BackendError] | str | None] = attrs.field(factory=dict)
    slow: Mapping[str, Any] = attrs.field(factory=lambda: {"each_s": 3600.0})
    options: Mapping[str, Any] = attrs.field(factory=dict)
    title: str = ""
