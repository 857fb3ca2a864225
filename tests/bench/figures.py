"""What was measured: a value a round, by what it is and whose; medians, ratios, and what went wrong."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import attrs

__all__ = ["Figures", "part"]


@attrs.define
class Figures:
    """Values by measure ("turns/s, 100 sessions") and subject ("ezflow"), one for each round.

    `wrong` are items that were lost, doubled or another user's, and what was left behind: no figure makes up for them.
    `calm_s`: how long a measurement may wait for a moment in which others leave the machine alone.
    """

    values: dict[str, dict[str, list[float]]] = attrs.field(factory=dict)
    wrong: list[str] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)
    calm_s: float = 0.0

    def add(self, measure: str, subject: str, value: float) -> None:
        self.values.setdefault(measure, {}).setdefault(subject, []).append(value)

    def median(self, measure: str, subject: str) -> float | None:
        """None if it was not measured."""
        found = self.values.get(measure, {}).get(subject)
        return statistics.median(found) if found else None

    def ratio(self, measure: str, subject: str, other: str) -> float | None:
        """The median, over the rounds, of one's value divided by the other's in the same round."""
        ours, theirs = (self.values.get(measure, {}).get(name, []) for name in (subject, other))
        ratios = [mine / its for mine, its in zip(ours, theirs, strict=False) if its]
        return statistics.median(ratios) if ratios else None

    def measured(self, prefix: str) -> bool:
        return any(measure.startswith(prefix) for measure in self.values)

    def as_json(self) -> dict[str, Any]:
        return {"values": self.values, "wrong": self.wrong, "notes": self.notes}


def part(values: Sequence[float], share: float) -> float:
    """A percentile."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
