"""What ezflow adds to Python's own logging: failures in a form of their own, and whom a record is about.

All of ezflow logs to `logging.getLogger("ezflow")` and loggers below it. `ezflow serve --log-format` renders them, and
those of all libraries (ezflow/rendering.py); a program that sets up its own logging adds the filter to its handlers:

    handler.addFilter(WithContext())
    handler.setFormatter(logging.Formatter("%(levelname)s user=%(user)s turn=%(turn)s %(stage)s: %(message)s"))
"""

from __future__ import annotations

import logging
from typing import Literal, get_args

from .context import bound
from .errors import StageError, brief_error, flat, is_expected

__all__ = ["FORMATS", "LEVELS", "Format", "Level", "WithContext", "facts", "failed"]

# How `ezflow serve` renders records, and from which level on.
Format = Literal["console", "json"]
Level = Literal["debug", "info", "warning", "error"]
FORMATS: tuple[Format, ...] = get_args(Format)
LEVELS: tuple[Level, ...] = get_args(Level)


class WithContext(logging.Filter):
    """Gives each record `user`, `turn`, `run`, `flow` and `stage`: empty where it belongs to none.

    What the record has by itself is left. It must be asked in the task or thread that logs: on the handler that is
    called there, not behind a queue.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in {**dict.fromkeys(("user", "turn", "run", "flow", "stage"), ""), **bound()}.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


def failed(
    log: logging.Logger,
    error: BaseException,
    message: str,
    *args: object,
    level: int = logging.ERROR,
    **fields: object,
) -> None:
    """Log a failure: an error that was to be expected in one line, any other with its traceback.

    At DEBUG the former has its traceback too. The record has the error's facts as `error`, and `fields` as they are.
    """
    if not log.isEnabledFor(level):
        return
    extra = {"error": facts(error), **fields}
    if is_expected(error):
        message, args = f"{message}: %s", (*args, " ".join(brief_error(error).split()))
        exc_info = error if log.isEnabledFor(logging.DEBUG) else None
    else:
        exc_info = error
    log.log(level, message, *args, exc_info=exc_info, extra=extra, stacklevel=2)


def facts(error: BaseException) -> dict[str, object]:
    """Its `type` and `message`; and what an error that was to be expected says of itself in its attributes.

    Of several errors, the first's; of a stage's, that of what it raised.
    """
    error = flat(error)[0]
    if isinstance(error, StageError):
        error = error.errors[0]
    told: dict[str, object] = {"type": type(error).__name__, "message": str(error)}
    if is_expected(error):
        for name, value in vars(error).items():
            # `body` is how a server's answer began: it may hold what a user said, and is in the message already.
            if name != "body" and not name.startswith("_") and isinstance(value, str | int | float) and value != "":
                told.setdefault(name, value)
    return told
