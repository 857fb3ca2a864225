"""For tests of modules and flows: no sockets, no sleeps, exact virtual times.

`collect` runs a flow with every item type-checked; the fakes take exact virtual times under trio's autojump
clock; `check_module` is the conformance suite that every module should pass.
"""

from __future__ import annotations

from .collecting import collect
from .conformance import Conformance, ConformanceError, check_module
from .fakes import Failing, FakeASR, FakeLLM, FakeTTS, FakeVAD, Pause

__all__ = [
    "Conformance",
    "ConformanceError",
    "Failing",
    "FakeASR",
    "FakeLLM",
    "FakeTTS",
    "FakeVAD",
    "Pause",
    "check_module",
    "collect",
]
