"""What several commands take."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["Subparsers", "add_target", "entry", "json_object"]


def add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="FILE[:NAME]", help="a Python file with `flow` or `flows`, or a name in it")


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
