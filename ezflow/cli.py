"""The command line: `ezflow serve | run | check | graph | talk | top | config | modules | new | models | completion`.

Exit codes: 0 done (`serve`: after a signal); 1 the flow has faults, something failed, or did not leave after a signal;
2 the command line is wrong. A second signal ends `serve` as the system does: a shell shows 130 for SIGINT, 143 for
SIGTERM.
"""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from typing import Any

from . import __version__
from .commands import check, completion, config, graph, models, modules, new, run, serve, talk, top
from .errors import EzflowError, FlowError, SettingsError
from .redaction import SECRETS, Redactor, secrets_of_environment
from .target import TargetError

__all__ = ["main"]

COMMANDS = (serve, run, check, graph, talk, top, config, modules, new, models, completion)

OPTION = re.compile("-[a-z]|--[a-z][a-z_-]*", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; ends the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may know fewer characters than a model
    options = _parser().parse_args(arguments)
    from .rendering import rendered

    SECRETS.update(secrets_of_environment())
    with rendered():
        sys.exit(_code(options))


def _code(options: argparse.Namespace) -> int:
    """Run a command, and say what went wrong; its exit code."""
    try:
        code: int = options.run(options)
    except (TargetError, SettingsError) as error:
        _complain(f"ezflow: {error}")
        code = 2
    except FlowError as error:
        print(error.report, file=sys.stderr)
        code = 1
    except (EzflowError, OSError) as error:
        _complain(f"ezflow: {error}")
        code = 1
    except KeyboardInterrupt:
        code = 130
    except SystemExit as error:
        if isinstance(error.code, int | None):
            raise
        _complain(str(error.code))
        code = 1
    except BaseException as error:  # noqa: BLE001  (as Python shows it, but for the secrets)
        _complain("".join(traceback.format_exception(error)))
        code = 1
    return code


class Parser(argparse.ArgumentParser):
    """Takes options by their whole names; of one that there is none, it says the nearest that there is."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **how})

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]  (typeshed has overloads)
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            # Only what looks like an option's name is repeated: all else may be a secret in the wrong place.
            told = [name for name in (word.partition("=")[0] for word in unknown) if OPTION.fullmatch(name)]
            close = get_close_matches(told[0], re.findall(r"--[a-z-]+", self.format_help()), 1) if told else []
            hint = f"; did you mean {close[0]}?" if close else ""
            if words := len(unknown) - len(told):
                told.append(f"{words} word{'' if words == 1 else 's'} too many")
            self.error(f"unrecognized arguments: {', '.join(told)}{hint}")
        return options, unknown


def _complain(text: str) -> None:
    from .talk.columns import plain  # an error may hold what a server said, and that must not steer a terminal

    SECRETS.update(secrets_of_environment())  # a target's file may have changed it before it failed
    # Secrets first: what they are hidden by is how they look as a whole.
    print(plain(Redactor().traceback(text)), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="ezflow", description="Typed voice and chat pipelines.")
    parser.add_argument("--version", action="version", version=f"ezflow {__version__}")
    parser.set_defaults(parser=parser)  # of which `completion` tells a shell
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
