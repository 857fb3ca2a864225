"""The served turn: what each server adds to the models' own time, and how many turns a core carries."""

from __future__ import annotations

from typing import Any

import attrs

from ..figures import Figures, part
from .servers import bench, present
from .work import IDEAL_SOUND_S, IDEAL_TEXT_S

__all__ = ["measure"]


@attrs.frozen
class Setting:
    """One load: its name in the figures, and the plan."""

    name: str
    plan: dict[str, Any]


def settings(*, short: bool) -> list[Setting]:
    def closed(sessions: int, for_s: float, warm_s: float, text: str = "wide") -> dict[str, Any]:
        times = {"for_s": 1.5, "warm_s": 0.7} if short else {"for_s": for_s, "warm_s": warm_s}
        return {"kind": "closed", "sessions": sessions, "text": text, **times}

    if short:
        return [Setting("20 sessions", closed(20, 0, 0)), Setting("1 session, full stops", closed(1, 0, 0, "stop"))]
    return [
        Setting("1 session", closed(1, 7.0, 1.5)),
        Setting("20 sessions", closed(20, 7.0, 1.5)),
        Setting("1 session, full stops", closed(1, 4.0, 1.0, "stop")),
        Setting("20 sessions, full stops", closed(20, 4.0, 1.0, "stop")),
        Setting("100 sessions", closed(100, 8.0, 3.0)),
        Setting("300 sessions", closed(300, 10.0, 5.0)),
        Setting("paced", {"kind": "paced", "sessions": 300, "rate": 31.0, "for_s": 15.0, "warm_s": 1.5}),
    ]


def measure(figures: Figures, *, short: bool) -> None:
    """One round."""
    names = present()
    with bench(figures, *names) as there:
        for setting in settings(short=short):
            for name in names:
                _note(figures, setting, name, there.load(name, setting.name, setting.plan))
                there.log()


def _note(figures: Figures, setting: Setting, name: str, found: dict[str, Any]) -> None:
    figures.add(f"errors, {setting.name}", name, sum(found["faults"].values()))
    for what, seconds, ideal_s in (
        ("text", found["first_text"], IDEAL_TEXT_S),
        ("sound", found["first_sound"], IDEAL_SOUND_S),
    ):
        if seconds:
            figures.add(f"ms added to first {what}, {setting.name}", name, 1e3 * (part(seconds, 0.5) - ideal_s))
            figures.add(f"p99 of first {what}, ms, {setting.name}", name, 1e3 * part(seconds, 0.99))
    figures.add(f"turns/s, {setting.name}", name, found["turns"] / found["seconds"])
    for process, seconds in found["cpu_s"].items():
        if process == "server" and found["turns"]:
            figures.add(f"CPU ms a turn, {setting.name}", name, 1e3 * seconds / found["turns"])
        figures.add(f"share of a core, {process}, {setting.name}", name, seconds / found["seconds"])
