"""`ezflow.toml`: what is written down of a server, under `[server]`, and of the flows it serves, under `[values]`."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from .errors import SettingsError
from .values import nearest

__all__ = ["Written", "find", "read"]

FILE = "ezflow.toml"
TABLES = ("server", "values")


@attrs.frozen
class Written:
    """A file of settings; what is not in it is empty."""

    file: str = FILE
    server: Mapping[str, Any] = attrs.field(factory=dict)
    values: Mapping[str, Any] = attrs.field(factory=dict)


def find(named: str | None, environment: Mapping[str, str] = os.environ) -> Written:
    """The file that the command line or EZFLOW_CONFIG names; else `ezflow.toml` of this folder, if it is there.

    Raises: SettingsError.
    """
    named = named or environment.get("EZFLOW_CONFIG") or None
    if named is None and not Path(FILE).exists():
        return Written()
    return read(named or FILE)


def read(path: str | Path) -> Written:
    """A file of settings, its tables known and their values not yet looked at. Raises: SettingsError."""
    try:
        # Editors of Windows begin a file with a mark.
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # also of a text that is no UTF-8, and of a number that is too long
        raise SettingsError(f"{path} is not TOML: {error}.") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise SettingsError(
                f"{path}: {name} is under no table: write [server] above a setting, [values] above what a flow takes."
            )
        if name not in TABLES:
            raise SettingsError(f"{path}: [{name}] is not known. {nearest(name, TABLES)}")
    return Written(str(path), tables.get("server", {}), tables.get("values", {}))
