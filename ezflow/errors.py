"""Every error that ezflow raises on purpose, each with its facts as attributes.

* EzflowError
  + DefinitionError     a module or function is written in a way that cannot work (also a TypeError)
  + FlowError           the startup check found faults; `.report` holds them all
  + EntryError          no stage has that index or name (also a LookupError)
  + InputError          a value from outside does not fit; `.path` and `.problem` (also a ValueError)
  + ItemTypeError       a stage was given an item of a type it does not take, or gave another (also a TypeError)
  + RouteError          `route` has no branch for a key (also a LookupError)
  + MissingDependency   a preset's package is not installed (also an ImportError)
  + NotOpenError        a resource was read while its module was not open (also an AttributeError)
  + ModuleOpenError     a module's `lifespan` failed; `.module`, and `.others` that failed with it
  + TurnClosedError     a turn was fed after its input had ended
  + SettingsError       a setting of a server, or a limit, has a value that it cannot have (also a ValueError)
  + SessionsFull        the service holds as many sessions as it may
  + SessionBusy         as many as may hold one user's session
  + StageStuck          a stage did not leave within the clean-up time; `.stages`
  + StageTimeout        `timeout` ended an item's run (also a TimeoutError)
    - BudgetExceeded    its `budget` did; `.limit` says which, `.stage` who was late, `.first_s` what came when
  + StageError          what one stage raised, with the stage's name
  + StoreError          what was said could not be stored, read or deleted
* TurnFailed            an ExceptionGroup: what the stages of a collected turn raised
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import trio

if TYPE_CHECKING:
    from .check import Report

__all__ = [
    "BudgetExceeded",
    "DefinitionError",
    "EntryError",
    "EzflowError",
    "FlowError",
    "InputError",
    "ItemTypeError",
    "MissingDependency",
    "ModuleOpenError",
    "NotOpenError",
    "RouteError",
    "SessionBusy",
    "SessionsFull",
    "SettingsError",
    "StageError",
    "StageStuck",
    "StageTimeout",
    "StoreError",
    "TurnClosedError",
    "TurnFailed",
]


class EzflowError(Exception):
    """Any error that ezflow raises on purpose.

    `expected`: what went wrong is outside of the program (a client, a server, time, room), and the message says all
    there is to know: a log shows it in one line. Any other is a mistake in the program, shown with its traceback. An
    error of yours may say the same of itself.
    """

    expected: ClassVar[bool] = False


class DefinitionError(EzflowError, TypeError):
    """A module or function is written in a way that cannot work; says what to write instead."""


class FlowError(EzflowError):
    """The startup check found faults: all of them are in `.report`."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


class EntryError(EzflowError, LookupError):
    """No stage of the flow has that index or name."""

    expected = True

    def __init__(self, entry: int | str, names: Sequence[str]) -> None:
        stages = ", ".join(f"{index} {name}" for index, name in enumerate(names))
        count = f"{len(names)} stage{'' if len(names) == 1 else 's'}"
        super().__init__(f"Entry {entry} does not exist: this flow has {count}, {stages}.")
        self.entry = entry
        self.names = tuple(names)


class InputError(EzflowError, ValueError):
    """A value from outside does not fit: `path` is where it stands (`options.LLM.temperature`), `problem` what
    is wrong there.
    """

    expected = True

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class ItemTypeError(EzflowError, TypeError):
    """A stage was given an item of a type that it does not take (`takes`), or gave one of another type than it says
    (`gives`).
    """

    def __init__(self, stage: str, needed: str, item: object, does: Literal["takes", "gives"] = "takes") -> None:
        did = "was given" if does == "takes" else "gave"
        super().__init__(f"{stage} {does} {needed}, but {did} {_brief(item)}.")
        self.stage = stage
        self.takes = needed if does == "takes" else None
        self.gives = needed if does == "gives" else None


class RouteError(EzflowError, LookupError):
    """`route` has no branch for the key of an item."""

    def __init__(self, key: object, keys: Sequence[object]) -> None:
        known = ", ".join(map(repr, keys))
        super().__init__(f"No branch for {key!r}: route has {known}. Add that key, or give `otherwise`.")
        self.key = key
        self.keys = tuple(keys)


class MissingDependency(EzflowError, ImportError):
    """The package that a preset stands on is not installed; or it is, and cannot be loaded: `broken` says why."""

    expected = True

    def __init__(self, module: str, distribution: str, extra: str, broken: str | None = None) -> None:
        super().__init__(
            f"{module} needs {distribution}, which is installed, but cannot be loaded: {broken}"
            if broken is not None
            else f"{module} needs {distribution}, which is not installed: "
            f'pip install "ezflow-trio[{extra}]", or pip install -e ".[{extra}]" in a checkout.'
        )
        self.module = module
        self.distribution = distribution
        self.extra = extra
        self.broken = broken


class NotOpenError(EzflowError, AttributeError):
    """A resource was read while its module was not open."""

    def __init__(self, module: str, field: str) -> None:
        super().__init__(
            f"{module}.{field} exists only while the module is open: "
            "run it in a flow (flow.collect, flow.open), or set it in lifespan() before reading it."
        )
        self.module = module
        self.field = field


class ModuleOpenError(EzflowError):
    """A module's `lifespan` failed: the others that were open have been released.

    `when` says at what: "could not open", "failed while open" or "could not close". Modules that failed after this
    one are in `others`, and in the message.
    """

    def __init__(
        self,
        module: str,
        cause: BaseException,
        when: str = "could not open",
        others: Sequence[ModuleOpenError] = (),
    ) -> None:
        super().__init__("; ".join([f"{module} {when}: {brief_error(cause)}", *map(str, others)]))
        self.__cause__ = cause
        self.module = module
        self.when = when
        self.others = tuple(others)


class TurnClosedError(EzflowError):
    """A turn was fed after its input had ended, or after it was over."""

    expected = True


class SettingsError(EzflowError, ValueError):
    """A setting of a server, or a limit of a service, has a value that it cannot have."""

    expected = True


class SessionsFull(EzflowError):
    """The service holds as many sessions as it may."""

    expected = True

    def __init__(self, limit: int) -> None:
        super().__init__(f"All sessions are taken (max_sessions={limit}): try again later.")
        self.limit = limit


class SessionBusy(EzflowError):
    """As many hold one user's session as may: requests and sockets that run, or wait for their turn."""

    expected = True

    def __init__(self, user: str, limit: int) -> None:
        super().__init__(
            f"{user!r} has as many requests under way as may be (max_holders={limit}): wait for one to end."
        )
        self.user = user
        self.limit = limit


class StageStuck(EzflowError):
    """Stages did not leave within the clean-up time after their turn was ended."""

    def __init__(self, stages: Sequence[str], seconds: float) -> None:
        names = ", ".join(stages)
        super().__init__(
            f"{names} did not leave within {seconds:g} s of being cancelled: a stage must let Cancelled pass, "
            "and clean up under `with turn.cleanup():`, which has a deadline."
        )
        self.stages = tuple(stages)
        self.seconds = seconds


class StageTimeout(EzflowError, TimeoutError):
    """An item's run took longer than its `timeout`."""

    expected = True

    def __init__(self, flow: str, seconds: float, told: str = "") -> None:
        super().__init__(told or f"{flow} took longer than {seconds:g} s.")
        self.flow = flow
        self.seconds = seconds


class BudgetExceeded(StageTimeout):
    """An item's run did not keep to its `budget`; the message says where the time went.

    `limit` is what ran out. `stage` was at work then. `first_s` has the stages that had been given something, in
    order: when each gave its first output, in seconds of the budget, or None. `awaited` is what `stage` was waiting
    for (`turn.awaits`), if it had said so.
    """

    def __init__(
        self,
        flow: str,
        seconds: float,
        limit: Literal["first_reply_s", "total_s"],
        stage: str,
        first_s: Mapping[str, float | None],
        awaited: str = "",
    ) -> None:
        what = "no reply" if limit == "first_reply_s" else "not done"
        story = [
            f"{name} has given nothing" if at_s is None else f"{name}'s first output came after {at_s:.2f} s"
            for name, at_s in first_s.items()
        ]
        if awaited:
            story.append(f"{stage} waits for {awaited}")
        elif first_s.get(stage) is not None:
            story.append(f"{stage} was at work")
        super().__init__(flow, seconds, f"{what} within {seconds:g} s: {', '.join(story)}.")
        self.limit = limit
        self.stage = stage
        self.first_s = dict(first_s)
        self.awaited = awaited


class StageError(EzflowError):
    """What one stage raised; `.stage` is its name, `.errors` are the errors, flat."""

    def __init__(self, stage: str, errors: Sequence[BaseException]) -> None:
        super().__init__(f"{stage}: " + "; ".join(map(brief_error, errors)))
        self.stage = stage
        self.errors = tuple(errors)


class StoreError(EzflowError):
    """The store of conversations does not do what it is asked; says why."""

    expected = True


class TurnFailed(ExceptionGroup[Exception]):
    """What the stages of a turn raised: flat, one level deep, each with a note that names its stage."""

    def derive(self, excs: Sequence[Exception], /) -> Self:  # type: ignore[override]
        return type(self)(self.message, excs)


# What passes through a stage and is not its error: it is being ended, or the whole program is.
NOT_ITS_OWN = (trio.Cancelled, KeyboardInterrupt, GeneratorExit)


def flat(error: BaseException) -> list[BaseException]:
    """The leaves of an exception group, in order; a list of one for any other error."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in flat(part)]
    return [error]


def is_expected(error: BaseException) -> bool:
    """Is it, or are all that it is made of, what a program has to expect? See EzflowError."""
    if isinstance(error, StageError):
        return all(map(is_expected, error.errors))
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_expected, error.exceptions))
    return getattr(error, "expected", False) is True


def brief_error(error: BaseException) -> str:
    """Its class and what it says; of a group, those of each error in it."""
    return "; ".join(f"{type(leaf).__name__}: {leaf}" if str(leaf) else type(leaf).__name__ for leaf in flat(error))


def _brief(value: object) -> str:
    shown = repr(value)
    if len(shown) > 60:
        shown = f"{shown[:57]}..."
    return f"{shown} ({type(value).__name__})"
