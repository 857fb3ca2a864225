"""How often each user may ask: so many requests a second for ever, so many more at once."""

from __future__ import annotations

import trio

__all__ = ["Rates"]

# Users that are remembered before those who have not asked for a while are forgotten.
USERS = 10_000


class Rates:
    """A leaky bucket for each user: `burst` requests at once, and as they leak out, `per_s` a second."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._every_s = 1 / per_s
        self._depth_s = burst / per_s
        self._empty_at: dict[str, float] = {}

    def wait_s(self, user: str) -> float:
        """Count a request: 0.0 if it is within the rate; else it does not count, and in so many seconds one would."""
        now = trio.current_time()
        level_s = max(0.0, self._empty_at.get(user, 0.0) - now) + self._every_s
        if level_s > self._depth_s:
            return level_s - self._depth_s
        if len(self._empty_at) >= USERS:
            self._empty_at = {name: at for name, at in self._empty_at.items() if at > now}
        self._empty_at[user] = now + level_s
        return 0.0
