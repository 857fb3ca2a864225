"""How often each user may ask: so many requests a second for ever, so many more at once."""

from __future__ import annotations

import trio

__all__ = ["Rates"]

# Users that are remembered: beyond them, whoever has been quiet for longest is forgotten.
USERS = 10_000


class Rates:
    """A leaky bucket for each user: `burst` requests at once, and as they leak out, `per_s` a second."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._every_s = 1 / per_s
        # A little more, so that rounding does not take away the last request of a burst.
        self._depth_s = (burst + 1e-6) / per_s
        self._empty_at: dict[str, float] = {}

    def wait_s(self, user: str) -> float:
        """Count a request: 0.0 if it is within the rate; else it does not count, and in so many seconds one would."""
        now = trio.current_time()
        level_s = max(0.0, self._empty_at.pop(user, 0.0) - now) + self._every_s
        over_s = max(0.0, level_s - self._depth_s)
        # At the end of the dictionary, whose beginning is forgotten first.
        self._empty_at[user] = now + level_s - (self._every_s if over_s else 0.0)
        while len(self._empty_at) > USERS:
            del self._empty_at[next(iter(self._empty_at))]
        return over_s
