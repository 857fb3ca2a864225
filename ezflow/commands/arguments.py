"""What several commands take."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..flow import Flow
from ..server.flags import FLAGS, default_of, kind_of
from ..server.secrets import take_secrets
from ..target import load
from ..values import Values, using
from ..written import Written, find

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["Subparsers", "add_settings", "add_target", "add_values", "entry", "flows_of", "json_object", "written"]


def add_target(parser: argparse.ArgumentParser) -> None:
    """The file of flows, and where its values come from."""
    parser.add_argument("target", metavar="FILE[:NAME]", help="a Python file with `flow` or `flows`, or a name in it")
    add_values(parser)


def add_values(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="settings (default: ezflow.toml; also: EZFLOW_CONFIG)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=VALUE",
        help='a value that the file takes by `setting("NAME")`',
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Each setting of a server, as a flag."""
    for flag in FLAGS.values():
        kind, default = kind_of(flag.name), default_of(flag.name)
        told = "" if default in (None, [], False) or "(default" in flag.about else f" (default: {_shown(default)})"
        about = f"{flag.about}{told}"
        if kind is bool:
            how: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        elif kind is list:
            how = {"action": "append", "metavar": flag.value}
        else:
            how = {"metavar": flag.value}
        parser.add_argument(flag.flag, dest=flag.name, default=None, help=about.replace("%", "%%"), **how)


def written(options: argparse.Namespace) -> Written:
    """The file of settings that a command line means. Raises: SettingsError."""
    return find(options.config)


@contextmanager
def flows_of(
    options: argparse.Namespace, file: Written | None = None
) -> Iterator[tuple[dict[str, Flow[Any, Any]], Values]]:
    """The flows of the target, and the values it took: `setting` takes those of this command line, the environment
    and the file.

    Raises: TargetError; SettingsError, also for a value that the target does not ask for.
    """
    file = file or written(options)
    with using(Values(dict(options.set), os.environ, file.values, file.file)) as values:
        flows = load(options.target)
        take_secrets(flows)  # the file may have read others
        values.check(options.target)
        yield flows, values


def _assignment(text: str) -> tuple[str, str]:
    name, is_one, value = text.partition("=")
    if not (is_one and name):  # it is not repeated: it may be a secret
        raise argparse.ArgumentTypeError("NAME=VALUE is needed, as in --set OLLAMA_MODEL=qwen3")
    return name, value


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def entry(text: str) -> int | str:
    """A stage, by index or name."""
    return int(text) if text.isdecimal() else text


def json_object(text: str) -> dict[str, Any]:
    """A JSON object. Raises: argparse.ArgumentTypeError."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("a JSON object is needed, by the stages' keys")
    return value
