"""The bounds of a service."""

from __future__ import annotations

import os
from math import inf
from typing import Any

import attrs

from .errors import SettingsError
from .flow import CAPACITY
from .instrument import Instrument
from .store import Store, readable

__all__ = ["Limits", "bounded"]


def bounded(least: float, above: bool = False, most: float = inf) -> Any:
    """A validator. Raises: SettingsError for what is less than `least`, or more than `most`, or no number; also for
    `least`, if `above`.
    """
    upwards = f"more than {least:g}" if above else f"{least:g} or more"
    needed = upwards if most == inf else f"{least:g} to {most:g}"

    def check(_: object, field: attrs.Attribute[Any], value: Any) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (value > least if above else value >= least) or value > most:
            raise SettingsError(f"{field.name}={value!r} was given, but {needed} is needed.")

    return check


@attrs.frozen(kw_only=True)
class Limits:
    """The bounds of a service.

    `capacity`: items a join holds. `ear`: events a turn holds for its client; when full, its stages wait.
    `cleanup_s`: what a cancelled stage may take to leave, and a module to be released. `turn_s`: how long a turn
    may take; of a live turn, how long it may be neither fed nor heard. `max_sessions`: users at once;
    `max_holders`: requests and sockets of one user at once. `idle_s`: how long a session without a holder keeps
    its history.
    `store`: where histories last, `sqlite:///FILE` (with a fourth / for an absolute path) or a `Store` of one's own;
    without one they end with their sessions. Of a user at most `history_messages` messages and `history_chars`
    characters are kept, for at most `history_days`; of all users together `store_bytes` in the file: the oldest
    messages make room.
    `threads`: worker threads of its blocking modules at once. `debug`: typeguard checks each item at each stage.
    """

    capacity: int = attrs.field(default=CAPACITY, validator=bounded(0))
    ear: int = attrs.field(default=64, validator=bounded(1))
    cleanup_s: float = attrs.field(default=5.0, validator=bounded(0))
    turn_s: float = attrs.field(default=float("inf"), validator=bounded(0, above=True))
    max_sessions: int = attrs.field(default=1000, validator=bounded(1))
    max_holders: int = attrs.field(default=64, validator=bounded(1))
    idle_s: float = attrs.field(default=0.0, validator=bounded(0))
    history_messages: int = attrs.field(default=200, validator=bounded(0))
    history_chars: int = attrs.field(default=100_000, validator=bounded(0))
    history_days: float = attrs.field(default=float("inf"), validator=bounded(0, above=True))
    store: str | Store | None = attrs.field(default=None, validator=readable)
    store_bytes: int = attrs.field(default=1024**3, validator=bounded(1024**2))
    debug: bool = False
    threads: int = attrs.field(default=min(32, (os.cpu_count() or 1) + 4), validator=bounded(1))
    instruments: tuple[Instrument, ...] = ()
