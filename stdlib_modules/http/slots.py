"""`Slots`: the places of a pool, handed out in turn to the users who wait for one."""

from __future__ import annotations

import trio
from trio.lowlevel import ParkingLot

from .errors import Faults

__all__ = ["Slots"]


class Slots:
    """`limit` places. Whoever waits gets the next one that is free: users in turn, each user's own in order; but for no
    longer than `place_s`, since behind a server that has stopped everybody would wait for all who came before.

    So one user with many requests delays another by one request at most. A place is handed over at once, without a
    moment in which it belongs to nobody: cancelling whoever waits loses none.
    """

    def __init__(self, limit: int, place_s: float) -> None:
        if limit < 1:
            raise ValueError(f"max_connections={limit}: at least one is needed.")
        self.limit = limit
        self.place_s = place_s
        self.free = limit
        self._queue: dict[str, ParkingLot] = {}  # in the order in which users' turns come

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(map(len, self._queue.values()))

    def status(self) -> dict[str, float]:
        """The figures that `Module.status` gives of them."""
        return {
            "connections_in_use": self.limit - self.free,
            "connections_limit": self.limit,
            "connections_waited_for": self.waiting,
        }

    def take_nowait(self) -> bool:
        """Have a place if one is free. Gives whether it is so."""
        if self.free:
            self.free -= 1
            return True
        return False

    async def take(self, user: str, end: float, faults: Faults) -> None:
        """Have a place. A checkpoint only if it has to wait; cancelled, it has none.

        `end`: by when, on trio's clock, all has to be over. Raises: BackendTimeout.
        """
        if self.take_nowait():
            return
        latest = trio.current_time() + self.place_s
        lot = self._queue.setdefault(user, ParkingLot())
        try:
            with trio.move_on_at(min(latest, end)):
                await lot.park()
                return
        finally:
            if not lot and self._queue.get(user) is lot:
                del self._queue[user]  # who comes again stands at the end
        if end <= latest:
            raise faults.timeout("was too busy: no connection became free in the time there is")
        raise faults.timeout(
            f"was too busy: none of its {self.limit} places became free within {self.place_s:g} s",
            "see whether it hangs, let it do more at once (max_connections), or wait longer (place_s)",
        )

    def give_back(self) -> None:
        """Pass a place on to whose turn it is."""
        for user in list(self._queue):
            lot = self._queue.pop(user)
            if not lot:  # whoever waited there has been cancelled
                continue
            lot.unpark()
            if lot:
                self._queue[user] = lot
            return
        self.free += 1
