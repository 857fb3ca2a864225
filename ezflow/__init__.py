"""ezflow: voice and chat pipelines as one typed expression, `asr >> llm >> tts`, on structured concurrency."""

from __future__ import annotations

from .channels import Inbox, Outbox
from .combine.batch import batch
from .combine.fallback import fallback
from .combine.latest import Latest
from .combine.ordered import ordered
from .combine.race import race
from .combine.retry import retry
from .combine.route import route
from .combine.timeout import timeout
from .errors import (
    BudgetExceeded,
    DefinitionError,
    EntryError,
    EzflowError,
    FlowError,
    InputError,
    ItemTypeError,
    MissingDependency,
    ModuleOpenError,
    NotOpenError,
    RouteError,
    SessionBusy,
    SessionsFull,
    SettingsError,
    StageError,
    StageStuck,
    StageTimeout,
    StoreError,
    TurnClosedError,
    TurnFailed,
)
from .events import Event, Progress
from .flow import Flow
from .items import Audio, Transcript, Utterance
from .modules import Module, module, resource
from .server import serve
from .service import Service, Session
from .turn import Turn
from .values import setting

__version__ = "0.1.0"

__all__ = [
    "Audio",
    "BudgetExceeded",
    "DefinitionError",
    "EntryError",
    "Event",
    "EzflowError",
    "Flow",
    "FlowError",
    "Inbox",
    "InputError",
    "ItemTypeError",
    "Latest",
    "MissingDependency",
    "Module",
    "ModuleOpenError",
    "NotOpenError",
    "Outbox",
    "Progress",
    "RouteError",
    "Service",
    "Session",
    "SessionBusy",
    "SessionsFull",
    "SettingsError",
    "StageError",
    "StageStuck",
    "StageTimeout",
    "StoreError",
    "Transcript",
    "Turn",
    "TurnClosedError",
    "TurnFailed",
    "Utterance",
    "batch",
    "fallback",
    "module",
    "ordered",
    "race",
    "resource",
    "retry",
    "route",
    "serve",
    "setting",
    "timeout",
]
