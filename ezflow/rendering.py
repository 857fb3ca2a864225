"""Log records as lines: for a person, or as JSON for a machine. structlog makes them, Python's logging brings them.

What is logged with `logging` and with structlog, by ezflow, its presets, Quart, hypercorn, any library, and what
`warnings` has to say, comes out in one form: the time, the level, the logger, what happened, whom it was done for
(ezflow/context.py) and what else the record has; and without secrets and payloads (ezflow/redaction.py). So does what
Python itself would print of a thread that fails, and of an error that nobody can be given.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict

from .context import bound
from .logs import Format, Level, facts
from .redaction import Redactor

__all__ = ["rendered", "takes_colours"]

log = logging.getLogger("ezflow")

# What every record has; whatever else it has, somebody gave it.
OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "_logger", "_name"}
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
CONTROLS_IN_TRACEBACK = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@contextmanager
def rendered(
    form: Format = "console",
    level: Level = "warning",
    *,
    about: Mapping[str, object] | None = None,
    stream: TextIO | None = None,
) -> Iterator[None]:
    """While it is entered, all log records of this process from `level` on are lines on standard error.

    It takes the place of what the root logger had, and gives that back.
    `about`: what every line tells of the process.
    """
    out = sys.stderr if stream is None else stream
    handler = _Handler(out)
    handler.setFormatter(_formatter(form, Redactor(), about or {}, colours=takes_colours(out)))
    root = logging.getLogger()
    before, before_level, before_warnings = root.handlers[:], root.level, warnings.showwarning
    before_hooks = threading.excepthook, sys.unraisablehook
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    threading.excepthook, sys.unraisablehook = _thread_failed, _not_raised
    configures = not structlog.is_configured()
    if configures:
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
    try:
        yield
    finally:
        if configures:
            structlog.reset_defaults()
        if warnings.showwarning is not before_warnings:  # else the program captures them itself
            logging.captureWarnings(False)
        threading.excepthook, sys.unraisablehook = before_hooks
        root.handlers[:] = before
        root.setLevel(before_level)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_type is not SystemExit:
        name = None if failure.thread is None else failure.thread.name
        log.error("thread %r failed", name, exc_info=failure.exc_value)


def _not_raised(failure: sys.UnraisableHookArgs) -> None:
    log.error("%s: %r", failure.err_msg or "Exception ignored in", failure.object, exc_info=failure.exc_value)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say in the log itself that a record could not be rendered. Python's own way shows all that it held."""
        error = type(sys.exception()).__name__
        said = f"a record of {record.pathname}:{record.lineno} cannot be rendered ({error}): {record.msg!r}"
        kept = {name: vars(record)[name] for name in ("name", "levelno", "levelname", "created")}
        with suppress(OSError, ValueError):  # nobody reads the log any more
            self.stream.write(self.format(logging.makeLogRecord(kept | {"msg": said})) + self.terminator)
            self.flush()


def takes_colours(stream: TextIO) -> bool:
    """Is it a terminal that may be given colours? NO_COLOR says that none are wanted."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _formatter(form: Format, redactor: Redactor, about: Mapping[str, object], *, colours: bool) -> logging.Formatter:
    fields = partial(_fields, redactor, about)
    if form == "json":
        return _Formatter(redactor, processors=[fields, structlog.processors.JSONRenderer()])
    show = structlog.dev.ConsoleRenderer(
        colors=colours,
        exception_formatter=structlog.dev.plain_traceback,  # structlog's usual one shows what variables hold
        sort_keys=False,
        pad_event_to=0,
    )
    return _Formatter(redactor, processors=[fields, _for_console, show])


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Redacts a message's arguments one by one, before they are put in: there each has its own length."""

    def __init__(self, redactor: Redactor, **more: Any) -> None:
        super().__init__(**more)
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        record = logging.makeLogRecord(record.__dict__)
        if isinstance(record.args, Mapping):
            record.args = {key: _shown(value, self._redactor) for key, value in record.args.items()}
        elif record.args:
            record.args = tuple(_shown(value, self._redactor) for value in record.args)
        return super().format(record)


def _fields(redactor: Redactor, about: Mapping[str, object], _: object, __: str, of: EventDict) -> Mapping[str, Any]:
    """What a line tells, in its order, of a record of `logging` or of structlog."""
    event = dict(of)
    record: logging.LogRecord = event.pop("_record")
    exc_info, stack = event.pop("exc_info", None), event.pop("stack_info", None)
    if not event.pop("_from_structlog"):
        event |= {name: value for name, value in vars(record).items() if name not in OWN}
    error = _error_of(exc_info)
    if error is not None:
        event.setdefault("error", facts(error))
    told = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "level": record.levelname.lower(),
        "logger": redactor.text(record.name),
        "event": redactor.text(str(event.pop("event", "")).rstrip("\n")),
    }
    for name, value in {**about, **bound(), **event}.items():
        told.setdefault(redactor.text(name), redactor.field(name, value))
    if error is not None:
        told["exception"] = redactor.traceback("".join(traceback.format_exception(error)).rstrip("\n"))
    if stack:
        told["stack"] = redactor.traceback(str(stack))
    return told


def _error_of(exc_info: Any) -> BaseException | None:
    """The exception of a record; structlog takes it as itself, as a triple, or as True for the present one."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1]  # type: ignore[no-any-return]
    return sys.exception() if exc_info else None


def _for_console(_: object, __: str, event: EventDict) -> Mapping[str, Any]:
    """For a person: nothing twice, and nothing that would steer the terminal."""
    if isinstance(event.get("error"), dict):
        del event["error"]  # the event says it, or the traceback does
    for name, value in event.items():
        if isinstance(value, str):
            controls = CONTROLS_IN_TRACEBACK if name in ("exception", "stack") else CONTROLS
            event[name] = controls.sub(lambda found: repr(found[0])[1:-1], value)
    return event


class _Shown:
    """An argument of a record's message, redacted when it is put in."""

    def __init__(self, value: object, redactor: Redactor) -> None:
        self._value = value
        self._redactor = redactor

    def __str__(self) -> str:
        return self._redactor.text(str(self._value))

    def __repr__(self) -> str:
        return self._redactor.text(repr(self._value))


def _shown(value: object, redactor: Redactor) -> object:
    return value if isinstance(value, bool | int | float) or value is None else _Shown(value, redactor)
