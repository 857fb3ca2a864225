"""Is the server up, and is all there that its flows stand on? `GET /health/live`, `/health/ready`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from math import inf

import trio
from quart import Blueprint, Response

from ..errors import NOT_ITS_OWN, brief_error
from ..modules import Module
from ..redaction import Redactor
from ..service import Service
from .edges import Edges
from .replies import answer

__all__ = ["Probes", "health"]

log = logging.getLogger("ezflow.server")

# How long what the probes have found counts: whoever asks more often does not ask the backends more often.
FRESH_S = 1.0


class Probes:
    """The health probes of all modules: each runs once at a time, and begins no more often than once a second.

    They run in a nursery of the server's: an asker that leaves ends none, and one that hangs keeps no asker longer
    than `patience_s`.
    """

    def __init__(self, services: Iterable[Service], patience_s: float, nursery: trio.Nursery) -> None:
        stages = [stage for service in services for stage in service.stages]
        self._stages = {id(stage.module): stage for stage in stages if type(stage.module).probe is not Module.probe}
        self._patience_s = patience_s
        self._nursery = nursery
        self._asked_at = -inf
        self._running: dict[int, trio.Event] = {}
        self._found: dict[int, str | None] = {}

    async def ask(self, services: Iterable[Service]) -> dict[str, str]:
        """What fails, by the stage's name; empty if nothing does. Never raises."""
        if trio.current_time() - self._asked_at >= FRESH_S:
            self._asked_at = trio.current_time()
            for key in self._stages.keys() - self._running.keys():
                self._running[key] = trio.Event()
                self._nursery.start_soon(self._ask, key)
        with trio.move_on_at(self._asked_at + self._patience_s):
            for event in list(self._running.values()):
                await event.wait()
        for key in self._running:
            self._note(key, f"no answer within {self._patience_s:g} s")
        return {
            stage.name: problem
            for service in services
            for stage in service.stages
            if (problem := self._found.get(id(stage.module))) is not None
        }

    async def _ask(self, key: int) -> None:
        problem: str | None = None
        try:
            with trio.move_on_after(self._patience_s) as patience:
                await self._stages[key].module.probe()
            if patience.cancelled_caught:
                problem = f"no answer within {self._patience_s:g} s"
        except NOT_ITS_OWN:
            raise
        except BaseException as error:  # noqa: BLE001  (whatever a module's own code raises: the stage is not ready)
            problem = Redactor().whole(brief_error(error))
        finally:
            self._running.pop(key).set()
        self._note(key, problem)

    def _note(self, key: int, problem: str | None) -> None:
        if problem != self._found.get(key):
            log.warning("stage %s: %s", self._stages[key].name, problem or "ready again")
        self._found[key] = problem


def health(services: Iterable[Service], probes: Probes, edges: Edges) -> Blueprint:
    """The routes that say whether these flows can be used; what fails is told to those alone who have a token."""
    routes = Blueprint("health", __name__)
    flows = tuple(services)

    @routes.get("/health/live")
    async def get_live() -> Response:
        return answer({"status": "live"})

    @routes.get("/health/ready")
    async def get_ready() -> Response:
        # The server listens only when every module is open and warm: what is asked is whether their backends are.
        if edges.stopping:
            return answer({"status": "stopping"}, 503, Retry_After="1")
        failing: Mapping[str, str] = await probes.ask(flows)
        stages = list(dict.fromkeys(stage.name for service in flows for stage in service.stages))
        if not failing:
            return answer({"status": "ready", "stages": stages})
        told = {"failing": failing} if edges.knows else {}
        return answer({"status": "unready", "stages": stages, **told}, 503, Retry_After="1")

    return routes
