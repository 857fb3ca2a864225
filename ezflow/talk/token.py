"""The token that a person has for a server: from a file or the environment, never from the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import SettingsError

__all__ = ["token_of"]


def token_of(file: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The first word of a file, or EZFLOW_TOKEN. Raises: SettingsError if the file cannot be read or holds none."""
    if file is None:
        return environment.get("EZFLOW_TOKEN") or None
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the token file {file} cannot be read: {error}") from error
    # A line of a server's own file does too: it is the token, then its users.
    words = [line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not words:
        raise SettingsError(f"the token file {file} holds no token.")
    return words[0]
