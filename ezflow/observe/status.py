"""What modules hold at this moment: connections, what waits for one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs

from ..modules import Module

if TYPE_CHECKING:
    from ..service import Service

__all__ = ["Status", "Statuses"]

log = logging.getLogger("ezflow.server")

# Of one module: each is a time series for as long as the server runs.
FIGURES = 32


@attrs.frozen
class Status:
    """The figures of one open module, under the first of its stages."""

    flow: str
    stage: str
    values: Mapping[str, float]


class Statuses:
    """Asks all modules of these services, each once, though it may stand at several stages."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._modules: dict[int, tuple[str, str, Module[Any, Any]]] = {}
        for service in services:
            for stage in service.stages:
                self._modules.setdefault(id(stage.module), (service.name, stage.name, stage.module))
        self._failed: set[int] = set()

    def __call__(self) -> Iterator[Status]:
        """What they hold. A module that fails is left out, and logged the first time."""
        for key, (flow, stage, module) in self._modules.items():
            try:
                values = {str(what): float(value) for what, value in islice(module.status().items(), FIGURES)}
            except Exception as error:
                if key not in self._failed:
                    log.error("stage %s cannot tell its status", stage, exc_info=error)
                self._failed.add(key)
            else:
                if values:
                    yield Status(flow, stage, values)
