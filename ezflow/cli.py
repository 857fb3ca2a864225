"""The command line: `ezflow serve | check | graph | talk | top | config | modules | new | models`.

Exit codes: 0 done (`serve`: after a signal); 1 the flow has faults, something failed, or did not leave after a signal;
2 the command line is wrong. A second signal ends `serve` as the system does: a shell shows 130 for SIGINT, 143 for
SIGTERM.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from . import __version__
from .commands import check, config, graph, models, modules, new, serve, talk, top
from .errors import EzflowError, FlowError, SettingsError
from .target import TargetError

__all__ = ["main"]

COMMANDS = (serve, check, graph, talk, top, config, modules, new, models)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; ends the process with its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        code: int = options.run(options)
    except (TargetError, SettingsError) as error:
        _complain(error)
        code = 2
    except FlowError as error:
        print(error.report, file=sys.stderr)
        code = 1
    except (EzflowError, OSError) as error:
        _complain(error)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _complain(error: Exception) -> None:
    from .talk.screen import plain  # an error may hold what a server said, and that must not steer a terminal

    print(f"ezflow: {plain(str(error))}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ezflow", description="Typed voice and chat pipelines.")
    parser.add_argument("--version", action="version", version=f"ezflow {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
