"""The secrets of a server's configuration, to be hidden."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from ..errors import SettingsError
from ..flow import Flow
from ..redaction import SECRETS, secrets_of_environment, secrets_of_modules
from .tokens import Token, lines_of_environment, secret_of

__all__ = ["take_secrets"]


def take_secrets(flows: Mapping[str, Flow[Any, Any]], tokens: Iterable[Token | str] = ()) -> None:
    """Take as secret what the environment says, what modules hold or name, and the tokens.

    `tokens` as they were given: settings keep only the hashes of them.
    """
    around: list[str] = []
    with suppress(SettingsError):  # it cannot be read: who needs it says so
        around = lines_of_environment()
    lines = [*around, *([tokens] if isinstance(tokens, str) else tokens)]
    modules = [stage.module for flow in flows.values() for stage in flow.stages]
    SECRETS.update(secrets_of_environment(), secrets_of_modules(modules), filter(None, map(secret_of, lines)))
