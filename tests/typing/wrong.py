"""Compositions that must not type-check: each marked line, with mypy's code and pyright's rule, and no other."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ezflow import Audio, Flow, Latest, Module, Turn, batch, fallback, module, ordered, resource


@module
class Hears(Module[Audio, str]):
    async def process(self, sound: Audio, turn: Turn) -> str:
        return str(sound)


@module
class Speaks(Module[str, Audio]):
    speed: float = 1.0
    engine: object = resource()

    async def process(self, text: str, turn: Turn) -> AsyncIterator[Audio]:
        yield Audio(b"", 24_000, text=text)


@module
class TakesOther(Module[str, str]):
    async def process(self, text: int, turn: Turn) -> str:  # mypy: override; pyright: reportIncompatibleMethodOverride
        return str(text)


@module
class GivesOther(Module[str, Audio]):
    async def process(self, text: str, turn: Turn) -> str:  # mypy: override; pyright: reportIncompatibleMethodOverride
        return text


def length(text: str) -> int:
    return len(text)


Speaks() >> Speaks()  # mypy: operator; pyright: reportOperatorIssue
Hears() >> Speaks() >> Speaks()  # mypy: operator; pyright: reportOperatorIssue
Hears() >> length >> Speaks()  # mypy: operator; pyright: reportOperatorIssue
Hears() >> Latest(Hears())  # mypy: arg-type; pyright: reportOperatorIssue
Hears() >> batch(8, 0.1) >> Speaks()  # mypy: operator; pyright: reportOperatorIssue
Speaks() >> ordered(Speaks(), 3)  # mypy: arg-type; pyright: reportOperatorIssue
Hears() >> (Speaks() | Hears())  # mypy: operator; pyright: reportOperatorIssue
Hears().budget(total_s=1) >> Speaks() >> Speaks()  # mypy: operator; pyright: reportOperatorIssue
Speaks().budget(1.2)  # mypy: call-arg; pyright: reportCallIssue
Speaks().budget(total_s="1")  # mypy: arg-type; pyright: reportArgumentType
length | Hears()  # mypy: operator; pyright: reportOperatorIssue
fallback(Speaks(), Hears()) >> Hears()  # mypy: operator; pyright: reportOperatorIssue
wrong: Flow[str, str] = Speaks()  # mypy: assignment; pyright: reportAssignmentType
Speaks(speed="fast")  # mypy: arg-type; pyright: reportArgumentType
Speaks(engine=object())  # mypy: call-arg; pyright: reportCallIssue
