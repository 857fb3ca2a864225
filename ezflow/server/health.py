"""Is the server up, and is all there that its flows stand on? `GET /health/live`, `/health/ready`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial

import trio
from quart import Blueprint, Response

from ..modules import Module
from ..service import Service
from .edges import Edges
from .replies import answer

__all__ = ["Probes", "health"]

log = logging.getLogger("ezflow.server")

# How long what the probes have found counts: whoever asks more often does not ask the backends more often.
FRESH_S = 1.0


class Probes:
    """The health probes of all modules: each is asked once at a time, and no more often than once a second."""

    def __init__(self, services: Iterable[Service], patience_s: float) -> None:
        stages = [stage for service in services for stage in service.stages]
        self._stages = {id(stage.module): stage for stage in stages if type(stage.module).probe is not Module.probe}
        self._patience_s = patience_s
        self._asking = trio.Lock()
        self._asked_at = -float("inf")
        self._found: dict[int, str] = {}

    async def ask(self, services: Iterable[Service]) -> dict[str, str]:
        """What fails, by the stage's name; empty if nothing does. Never raises."""
        async with self._asking:
            if trio.current_time() - self._asked_at >= FRESH_S:
                found: dict[int, str] = {}
                async with trio.open_nursery() as nursery:
                    for key in self._stages:
                        nursery.start_soon(partial(self._ask, key, found))
                self._found, self._asked_at = found, trio.current_time()
        return {
            stage.name: self._found[id(stage.module)]
            for service in services
            for stage in service.stages
            if id(stage.module) in self._found
        }

    async def _ask(self, key: int, found: dict[int, str]) -> None:
        stage = self._stages[key]
        try:
            with trio.fail_after(self._patience_s):
                await stage.module.probe()
        except trio.TooSlowError:
            found[key] = f"no answer within {self._patience_s:g} s"
        except Exception as error:  # noqa: BLE001  (whatever a module's own code raises: the stage is not ready)
            found[key] = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if found.get(key) != self._found.get(key):
            log.warning("stage %s: %s", stage.name, found.get(key, "ready again"))


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
