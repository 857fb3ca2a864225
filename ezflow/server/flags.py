"""How each setting is said: `max_body` in `ezflow.toml`, EZFLOW_MAX_BODY, `--max-body`; and what it is for."""

from __future__ import annotations

from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from .config import MOST_WORKERS, Settings

__all__ = ["DEFAULTS", "FLAGS", "SAID_IN_PYTHON", "TOKENS_FILE", "Flag", "default_of", "kind_of"]

# What only a program can give; and what stands in the environment, or in a file of its own.
SAID_IN_PYTHON = ("instruments", "request")
TOKENS_FILE = "tokens_file"
# What `ezflow serve` does where nobody says anything, other than `ezflow.serve`: it renders the log.
DEFAULTS = {"log_format": "console", "log_level": "warning"}


@attrs.frozen
class Flag:
    """A setting's name, what is said of it, and how its value and its flag are called on the command line."""

    name: str
    about: str
    value: str = ""
    flag: str = attrs.field(default=attrs.Factory(lambda self: "--" + self.name.replace("_", "-"), takes_self=True))

    @property
    def variable(self) -> str:
        return f"EZFLOW_{self.name.upper()}"


FLAGS = {
    flag.name: flag
    for flag in (
        Flag("host", "address to listen on", "ADDRESS"),
        Flag("port", "port, 0 for a free one", "PORT"),
        Flag("workers", f"processes that serve, at most {MOST_WORKERS}, each with flows of its own (POSIX)", "N"),
        Flag("worker_port", "a port for each of them too, from this one on: for a proxy that goes by the user", "PORT"),
        Flag("insecure", "allow a host that other machines reach, without a token"),
        Flag(TOKENS_FILE, "who may use it: a line `TOKEN [USER ...]` each (also: EZFLOW_TOKENS)", "FILE", "--tokens"),
        Flag("trusted", "whose EZPipe clients need no token: 10.0.0.0/8", "NETWORK", "--trust"),
        Flag("hosts", "a name that clients may call this server by", "NAME", "--allow-host"),
        Flag("origins", "a web page's origin that may use it", "URL", "--allow-origin"),
        Flag("max_body", "the largest body of a request", "BYTES"),
        Flag("max_message", "the longest message of a WebSocket", "BYTES"),
        Flag("max_sessions", "users at once: 503 or 1013 beyond, when all are in use", "N"),
        Flag("max_holders", "requests and sockets of one user at once: 429 or 1013 beyond", "N"),
        Flag("rate_per_s", "requests of one user a second, in the long run: 429 beyond", "N"),
        Flag("rate_burst", "requests of one user in one go", "N"),
        Flag("turn_s", "how long a turn may take; a live turn, how long it may be neither fed nor heard", "S"),
        Flag("idle_s", "how long a session is kept after the last request (and, without a store, its history)", "S"),
        Flag("quiet_s", "how long a socket without a turn may send nothing", "S"),
        Flag("grace_s", "how long running turns may go on after a signal", "S", "--grace"),
        Flag("cleanup_s", "what a cancelled stage may take to leave, and a module to be released", "S"),
        Flag("probe_s", "how long a module's health probe may take", "S"),
        Flag("capacity", "items that a join between two stages holds", "N"),
        Flag("ear", "events that a turn holds for its client; when full, its stages wait", "N"),
        Flag("threads", "worker threads of blocking modules (default: cores + 4, at most 32)", "N"),
        Flag("store", "where conversations last: sqlite:///history.db (default: nowhere)", "URL"),
        Flag("store_bytes", "how large the store's file may grow: the oldest messages make room", "BYTES"),
        Flag("history_messages", "the newest messages of a user that are kept", "N"),
        Flag("history_chars", "the newest characters of a user that are kept", "N"),
        Flag("history_days", "the age at which a message is deleted", "DAYS"),
        Flag("metrics", "figures for Prometheus at /metrics, and more to see in `ezflow top`"),
        Flag("log_format", "how log lines look: console or json", "FORMAT"),
        Flag("log_level", "from where on: debug, info, warning or error", "LEVEL"),
        Flag(
            "traces",
            "send traces to this OTLP/HTTP collector, as http://127.0.0.1:4318; or off "
            "(default: OTEL_EXPORTER_OTLP_ENDPOINT)",
            "URL",
        ),
        Flag("trace_users", "traces tell whose turn it is"),
        Flag("block_s", "what holds up the event loop for longer is named in the log; 0 for never", "S"),
        Flag("debug", "typeguard checks each item at each stage"),
        Flag("playground", "the page at / to try the flows on"),
        Flag("greeting", "what POST /awake says", "TEXT"),
    )
}


@cache
def _types() -> dict[str, Any]:
    return get_type_hints(Settings)


def kind_of(name: str) -> Any:
    """What a setting is written as: bool, int, float, str, or list for several strings."""
    of = _types().get(name, str)
    if get_origin(of) is tuple:
        return list
    members = get_args(of) if get_origin(of) in (Union, UnionType) else (of,)
    return next((kind for kind in (bool, int, float) if kind in members), str)


def default_of(name: str) -> Any:
    """What a setting is where nobody gives it; None for what is then not there."""
    if name in DEFAULTS:
        return DEFAULTS[name]
    field = attrs.fields_dict(Settings).get(name)
    value = None if field is None else field.default
    return list(value) if isinstance(value, tuple) else value
