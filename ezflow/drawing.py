"""A bound flow as a line of text, and as boxes for Mermaid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .combine.around import Around, Choice
from .combine.budget import Budget
from .flow import Flow, Series
from .stage import Stage, stages_of

__all__ = ["WITHIN", "boxes", "draw"]

WITHIN = {"first_reply_s": "first reply within", "total_s": "done within"}


def draw(flow: Flow[Any, Any]) -> str:
    """A bound flow in one line: `vad -> latest(asr -> llm)`."""
    if isinstance(flow, Stage):
        return flow.name
    if isinstance(flow, Series):
        return " -> ".join(map(draw, flow.parts))
    if isinstance(flow, Around | Choice):
        return f"{type(flow).__name__.lower()}({', '.join(map(draw, flow.parts))})"
    name = "" if type(flow).__name__ == "Parallel" else type(flow).__name__.lower()
    return f"{name}({' | '.join(map(draw, flow.parts))})"


def boxes(flow: Flow[Any, Any], depth: int = 1) -> Iterator[str]:
    """A bound flow's stages as the lines of a Mermaid drawing, a budget as a frame around its own."""
    indent = "    " * depth
    if isinstance(flow, Stage):
        shape = ("([", "])") if flow.is_shown else ("[", "]")
        yield f'{indent}s{flow.index}{shape[0]}"{flow.index} {flow.name}"{shape[1]}'
        return
    if isinstance(flow, Budget):
        limits = {"first_reply_s": flow.first_reply_s, "total_s": flow.total_s}
        told = ", ".join(f"{WITHIN[name]} {value} s" for name, value in limits.items() if value is not None)
        yield f'{indent}subgraph b{stages_of(flow)[0].index}_{depth} ["{told}"]'
        yield from boxes(flow.flow, depth + 1)
        yield f"{indent}end"
        return
    for part in flow.parts:
        yield from boxes(part, depth)
