"""What a server is doing at this moment, as a tree: sessions, their turns, runs and stages.

It is read off the tasks themselves, so it costs nothing until somebody asks, and a turn that hangs shows the line at
which it does. Since when, and how many items, only the observer knows, if there is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

import trio

from ..channels import Receiver
from ..open_turn import OpenTurn
from ..place import Place
from ..turn import TurnState
from .frames import Spot, spot_in, waits_in
from .observer import WAITS, Observer

__all__ = ["sessions"]

# Of one user, at most: `ordered(flow, 1000)` may have a task for each of a thousand items.
STAGES = 200
TASKS = 2000


async def sessions(places: Iterable[Place], observer: Observer | None, at_most: int) -> dict[str, Any]:
    """These places of users, those with the oldest turns first; beyond `at_most`, how many more there are.

    Each is shown as it is in one moment; between two of them the turns go on, since to look at all may take long.
    """
    now = trio.current_time()
    places = list(places)
    busy = {place: turn for place in places if (turn := place.turn) is not None and not turn.over}
    order = sorted(places, key=lambda place: (place not in busy, -_age_s(place, busy, now)))
    told: dict[str, Any] = {
        "count": len(order),
        "busy": len(busy),
        "holders": sum(place.leases for place in order),
        "more": max(0, len(order) - at_most),
        "list": [],
    }
    for place in order[:at_most]:
        told["list"].append(_session(place, busy.get(place), observer, trio.current_time()))
        await trio.lowlevel.checkpoint()
    return told


def _age_s(place: Place, busy: Mapping[Place, OpenTurn], now: float) -> float:
    turn = busy.get(place)
    return now - place.left_at if turn is None or turn.state is None else turn.state.clock()


def _session(place: Place, turn: OpenTurn | None, observer: Observer | None, now: float) -> dict[str, Any]:
    told: dict[str, Any] = {
        "user": place.user,
        "holders": place.leases,
        "idle_s": None if place.leases else round(now - place.left_at, 3),
        "turns": [],
    }
    turns: dict[TurnState, list[Spot]] = {}
    if turn is not None and turn.state is not None:
        turns[turn.state] = []
    for spot in _spots(place):
        turns.setdefault(spot.view.state, []).append(spot)
    for state, spots in turns.items():
        own = turn if turn is not None and turn.state is state else None
        told["turns"].append(_turn(state, own, spots, observer, now))
    return told


def _turn(
    state: TurnState, turn: OpenTurn | None, spots: list[Spot], observer: Observer | None, now: float
) -> dict[str, Any]:
    """A turn; one that a newer has taken the place of, and whose stages do not leave, has no end any more."""
    runs: dict[int, list[dict[str, Any]]] = {run.number: [] for run in state.runs}
    for spot in spots[:STAGES]:
        runs.setdefault(spot.view.own_run.number, []).append(_stage(spot, observer))
    return {
        "id": state.id,
        "flow": state.flow,
        "age_s": round(state.clock(), 3),
        "ends_in_s": round(turn.ends_at - now, 3) if turn is not None and isfinite(turn.ends_at) else None,
        "ending": turn is None or turn.is_ending,
        "stuck_s": None if turn is None or turn.stuck_at is None else round(now - turn.stuck_at, 3),
        "ear": {"held": state.ear.held, "capacity": state.ear.capacity},
        "runs": [{"run": number, "stages": stages} for number, stages in sorted(runs.items())],
        "more_stages": max(0, len(spots) - STAGES),
    }


def _stage(spot: Spot, observer: Observer | None) -> dict[str, Any]:
    waits = waits_in(spot.inner)
    told: dict[str, Any] = {"stage": spot.stage.name, "index": spot.stage.index, "waits_for": waits}
    told["at"] = None if waits else spot.at
    if isinstance(spot.inbox, Receiver):
        join = spot.inbox.join
        told["join"] = {"held": len(join.items), "capacity": join.capacity}
    lane = observer.lane(spot.view) if observer is not None else None
    if observer is not None and lane is not None:
        if waits is None:  # its own task does not; one that it has started may
            waits = next((what for what in WAITS[1:] if lane.since(what) is not None), None)
            told["waits_for"] = waits
        since = lane.since(waits) if waits else lane.moved_at
        told["since_s"] = None if since is None else round(observer.now() - since, 3)
        told["items_in"], told["items_out"] = lane.items_in, lane.items_out
    return told


def _spots(place: Place) -> list[Spot]:
    """Each stage that is present in a user's place, in the order of the flow."""
    found: list[Spot] = []
    queue, seen = deque(place.tasks), 0
    while queue and seen < TASKS:
        task, seen = queue.popleft(), seen + 1
        spot = spot_in(frame for frame, _ in task.iter_await_frames())
        if spot is not None:
            found.append(spot)
        queue.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return sorted(found, key=lambda spot: spot.stage.index)
