"""What a server is told: where it listens, whom it serves, and its bounds."""

from __future__ import annotations

import ipaddress
from typing import Any, Literal
from urllib.parse import urlsplit

import attrs

from ..errors import SettingsError
from ..limits import Limits, bounded
from ..logs import FORMATS, LEVELS
from .ezpipe_request import EZPipeRequest
from .tokens import Token, read_tokens, tokens_of_environment

__all__ = ["MOST_WORKERS", "Settings"]

MIB = 1024 * 1024
LAST_PORT = 65535
# Each is a process with models of its own: whoever asks for more has mistyped.
MOST_WORKERS = 256
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _origins(given: Any) -> tuple[str, ...]:
    """Origins as browsers write them."""
    return tuple(_origin(origin) for origin in _several("origins", given, "https://app.example"))


def _origin(given: str) -> str:
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise SettingsError(f"origins: {given!r} is no site: write scheme and host, as in https://app.example:8080.")
    return f"{parts.scheme}://{parts.netloc}".lower()


def _hosts(given: Any) -> tuple[str, ...]:
    return tuple(host.lower() for host in _several("hosts", given, "voice.example"))


def _several(name: str, given: Any, example: str) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(one, str) for one in given):
        raise SettingsError(f"{name}={given!r} was given, but several strings are needed: {name}=[{example!r}].")
    return tuple(given)


def _networks(given: Any) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(network) for network in _several("trusted", _written(given), "10.0.0.0/8"))
    except ValueError as error:
        raise SettingsError(f"trusted: {error}; a network is written as 10.0.0.0/8.") from error


def _written(given: Any) -> Any:
    """Networks that have been read already, as of settings that are given again with a change, as they are written."""
    if isinstance(given, str):
        return given
    return [str(one) if isinstance(one, ipaddress.IPv4Network | ipaddress.IPv6Network) else one for one in given]


def _one_of(names: tuple[str, ...]) -> Any:
    """A validator. Raises: SettingsError for what is neither None nor among the names."""

    def check(_: object, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and value not in names:
            raise SettingsError(f"{field.name}={value!r} was given, but one of {', '.join(names)} is needed.")

    return check


def _collector(_: object, __: attrs.Attribute[Any], value: Any) -> None:
    parts = urlsplit(value) if isinstance(value, str) else None
    is_url = parts is not None and parts.scheme in ("http", "https") and parts.hostname and not parts.query
    if value not in (None, "off") and not is_url:
        raise SettingsError('traces: the URL of a collector is needed, as in http://127.0.0.1:4318, or "off".')


@attrs.frozen(kw_only=True)
class Settings(Limits):
    """A server's settings, the limits of its services among them (`ezflow.service.Limits`).

    Where: `host`, `port`. It listens on loopback, unless there are tokens, or `insecure` says that anybody may come.

    By how many processes: `workers`, at most 256, from the command line alone. `worker_port`: the port of the first
    of them, for itself alone; the second has the next one, and so on: for a proxy that chooses the worker by the user.

    Whom: `tokens`, each a line "TOKEN [USER ...]" (`ezflow.server.tokens`), by default those of `EZFLOW_TOKENS` and
    of the file `EZFLOW_TOKENS_FILE`; with none, everybody who reaches it. `trusted`: networks ("10.0.0.0/8") from
    which EZPipe's routes take requests without one. `origins`: the web sites whose pages may use the server
    ("https://app.example"), besides its own; `hosts`: the names under which it may be called, besides `host` and
    those of this machine.

    How much: `max_body`: bytes of a request's body; `max_message`: of a WebSocket message. `max_sessions`: users at
    once, each with `max_holders` requests and sockets. `rate_per_s`, `rate_burst`: requests of one user.
    `turn_s`: how long a turn may take (a live turn: be silent on both sides). `idle_s`: how long a user's session is
    kept after the last request, and, without a `store`, its history. `quiet_s`: how long a socket without a turn may
    send nothing. `grace_s`: how long running turns may go on after SIGTERM. `probe_s`: how long a module's health
    probe may take.

    `metrics`: is there `/metrics` for Prometheus (extra `observe`)? Then turns and stages are observed, which costs
    some per cent. `block_s`: what holds up the event loop for longer is named in the log; 0 for never.

    `instruments`: what observes its turns. `playground`: is there a page at `/` to try the flows on? `greeting`: what
    `POST /awake` says. `request`: the body of `POST /input`, an attrs class that derives from `EZPipeRequest`.

    `log_format` ("console" or "json") and `log_level` ("debug", "info", "warning", "error"): with either, `serve`
    renders all log records of the process; with neither it leaves them to the program's own logging. `traces`: the
    URL of the collector that is sent a trace of each turn (OTLP/HTTP), or "off"; by default what the environment says
    (`OTEL_EXPORTER_OTLP_ENDPOINT`). `trace_users`: spans tell whose turn it is.
    """

    host: str = "127.0.0.1"
    port: int = attrs.field(default=3421, validator=bounded(0, most=LAST_PORT))
    workers: int = attrs.field(default=1, validator=bounded(1, most=MOST_WORKERS))
    worker_port: int | None = attrs.field(default=None, validator=attrs.validators.optional(bounded(0, most=LAST_PORT)))
    insecure: bool = False
    tokens: tuple[Token, ...] = attrs.field(factory=tokens_of_environment, converter=read_tokens, repr=False)
    trusted: tuple[Network, ...] = attrs.field(default=(), converter=_networks)
    origins: tuple[str, ...] = attrs.field(default=(), converter=_origins)
    hosts: tuple[str, ...] = attrs.field(default=(), converter=_hosts)
    max_body: int = attrs.field(default=32 * MIB, validator=bounded(0, above=True))
    max_message: int = attrs.field(default=8 * MIB, validator=bounded(0, above=True))
    rate_per_s: float = attrs.field(default=50.0, validator=bounded(0, above=True))
    rate_burst: int = attrs.field(default=200, validator=bounded(1))
    idle_s: float = attrs.field(default=600.0, validator=bounded(0))
    turn_s: float = attrs.field(default=600.0, validator=bounded(0, above=True))
    quiet_s: float = attrs.field(default=600.0, validator=bounded(0, above=True))
    grace_s: float = attrs.field(default=5.0, validator=bounded(0))
    probe_s: float = attrs.field(default=2.0, validator=bounded(0, above=True))
    metrics: bool = False
    block_s: float = attrs.field(default=0.25, validator=bounded(0))
    playground: bool = True
    greeting: str = "Hello! How can I help you?"
    request: type[EZPipeRequest] = EZPipeRequest
    log_format: Literal["console", "json"] | None = attrs.field(default=None, validator=_one_of(FORMATS))
    log_level: Literal["debug", "info", "warning", "error"] | None = attrs.field(
        default=None, validator=_one_of(LEVELS)
    )
    traces: str | None = attrs.field(default=None, validator=_collector)
    trace_users: bool = False

    def __attrs_post_init__(self) -> None:
        if self.worker_port:
            self._check_ports(range(self.worker_port, self.worker_port + self.workers))
        if not issubclass(self.request, EZPipeRequest) or "__attrs_attrs__" not in vars(self.request):
            raise SettingsError(
                f"request={self.request.__name__} is no request class: write @attrs.frozen above "
                f"class {self.request.__name__}(EZPipeRequest)."
            )
        attrs.resolve_types(self.request)  # a name in it that does not exist is known at the start
        if not (self.insecure or self.tokens or is_loopback(self.host)):
            raise SettingsError(
                f"host {self.host!r} is reachable from other machines, and nothing would ask who they are: give it "
                "tokens (EZFLOW_TOKENS, --tokens FILE), leave it at 127.0.0.1 behind a proxy, or say insecure=True "
                "(--insecure)."
            )

    def _check_ports(self, own: range) -> None:
        given = f"worker_port={self.worker_port} was given"
        if own[-1] > LAST_PORT:
            raise SettingsError(
                f"{given}, but {LAST_PORT + 1 - self.workers} or less is needed: each of workers={self.workers} has "
                f"the next port, and {LAST_PORT} is the last."
            )
        if self.port in own:
            raise SettingsError(
                f"{given}, but {own[0]} to {own[-1]}, the ports of the workers, may not hold port={self.port}, which "
                "is that of all."
            )

    @property
    def is_supervised(self) -> bool:
        """Do workers serve, and not the process that is started?"""
        return self.workers > 1 or self.worker_port is not None

    @property
    def bind(self) -> str:
        return self.at(self.port)

    def at(self, port: int) -> str:
        """The host, and that port of it."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


def is_loopback(host: str) -> bool:
    """Is it an address that only this machine reaches?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
