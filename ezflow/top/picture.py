"""A server's tree as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

import attrs

from ..talk.columns import BOLD, DIM, RED, REVERSE, YELLOW, cut, padded, painted, width_of
from .told import Fill, Session, Tree, Turn

__all__ = ["picture"]

TITLES = ("USER", "FLOW", "TURN", "AGE", "ENDS", "EAR", "STAGE", "WAITS FOR", "SINCE", "IN", "OUT", "JOIN", "AT")
# A name may be long, and the next column is wanted too.
WIDEST = 24
NONE = "-"
# What keeps a stage from its work, and is none of its doing.
COLOURS = {"input": DIM, "room": YELLOW, "client": YELLOW}


@attrs.frozen
class _Row:
    cells: Sequence[str]
    colour: str = ""


def picture(tree: Tree, url: str, width: int, height: int | None, *, colours: bool) -> list[str]:
    """The lines, none wider than `width`; of more sessions than `height` lines have room for, their number is told."""
    lines = [painted(cut(line, width), colour, colours) for line, colour in _head(tree, url)]
    groups = [list(_rows(session)) for session in tree.sessions.list]
    room = None if height is None else height - len(lines) - 2
    shown: list[_Row] = []
    more = tree.sessions.more
    for number, group in enumerate(groups):
        if room is not None and len(shown) + len(group) > room:
            more += len(groups) - number
            if not shown:  # of the oldest, what there is room for
                shown += group[: max(0, room)]
            break
        shown += group
    widths = [
        min(WIDEST, max(map(width_of, [title, *(row.cells[place] for row in shown)])))
        for place, title in enumerate(TITLES)
    ]
    widths[-1] = width
    lines.append(painted(_line(TITLES, widths, width).ljust(width), REVERSE, colours))
    lines += [painted(_line(row.cells, widths, width), row.colour, colours) for row in shown]
    if more:
        lines.append(cut(f"... and {more} more", width))
    return lines


def _head(tree: Tree, url: str) -> Iterator[tuple[str, str]]:
    loop, sessions, threads = tree.loop, tree.sessions, tree.threads
    up = timedelta(seconds=round(tree.uptime_s))
    state = ", shutting down" if tree.stopping else ""
    yield f"ezflow {tree.version} at {url}, up {up}{state}", BOLD
    lag = f"loop late by {_ms(loop.lag_s)}, at most {_ms(loop.max_lag_s)}, held up {loop.blocks} times"
    workers = f"threads {threads.busy} of {threads.limit}, {threads.waiting} wait"
    yield (
        f"sessions {sessions.count}, {sessions.busy} in a turn, {sessions.holders} holders   {lag}   {workers}",
        RED if threads.waiting else "",
    )
    for module in tree.modules:
        where = f"{module.flow}/{module.stage}" if module.flow else module.stage
        yield f"{where}: " + "  ".join(f"{what} {value:g}" for what, value in module.values.items()), ""
    if not tree.observed:
        yield "started without --metrics: since when a stage waits, and how much it took, is not known", DIM


def _rows(session: Session) -> Iterator[_Row]:
    if not session.turns:
        idle = NONE if session.idle_s is None else f"idle {_time(session.idle_s)}"
        yield _Row((session.user, NONE, NONE, idle, *[""] * 9), DIM)
    for turn in session.turns:
        yield from _turn_rows(session.user, turn)


def _turn_rows(user: str, turn: Turn) -> Iterator[_Row]:
    own = (user, turn.flow or NONE, str(turn.id), _time(turn.age_s), _ends(turn), _fill(turn.ear))
    stages = [(run.run, stage) for run in turn.runs for stage in run.stages]
    for number, (run, stage) in enumerate(stages):
        name = f"{turn.id}.{run}" if run else str(turn.id)
        told = (
            stage.stage,
            stage.waits_for or "(works)",
            NONE if stage.since_s is None else _time(stage.since_s),
            NONE if stage.items_in is None else str(stage.items_in),
            NONE if stage.items_out is None else str(stage.items_out),
            NONE if stage.join is None else _fill(stage.join),
            stage.at or "",
        )
        colour = RED if turn.ending else COLOURS.get(stage.waits_for or "", "")
        yield _Row((*(("", "") if number else own[:2]), name, *(("",) * 3 if number else own[3:]), *told), colour)
    if not stages:
        yield _Row((*own, "(none left)", *[""] * 6), RED if turn.ending else "")
    if turn.more_stages:
        yield _Row(("", "", "", "", "", "", f"... {turn.more_stages} more", *[""] * 6))


def _ends(turn: Turn) -> str:
    if turn.stuck_s is not None:
        return f"stuck {_time(turn.stuck_s)}"
    if turn.ending:
        return "ending"
    return NONE if turn.ends_in_s is None else _time(turn.ends_in_s)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{max(0.0, seconds):.1f}s"
    return str(timedelta(seconds=int(seconds))).removeprefix("0:")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _fill(queue: Fill) -> str:
    return f"{queue.held}/{queue.capacity}"


def _line(cells: Sequence[str], widths: Sequence[int], width: int) -> str:
    return cut(" ".join(padded(cell, most) for cell, most in zip(cells, widths, strict=True)).rstrip(), width)
