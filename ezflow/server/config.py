"""What a server is told: where it listens, and its bounds."""

from __future__ import annotations

import ipaddress

import attrs

from ..errors import EzflowError
from ..instrument import Instrument
from ..open_turn import Limits
from .ezpipe_request import EZPipeRequest

__all__ = ["Settings"]

MIB = 1024 * 1024


@attrs.frozen(kw_only=True)
class Settings:
    """A server's settings. It listens on loopback unless `insecure` says that anybody may come.

    `max_body`: bytes of a request's body. `max_sessions`: users at once. `idle_s`: how long a user's history is
    kept after the last request. `turn_s`: how long a turn may take. `grace_s`: how long running turns may go on
    after SIGTERM. `origins`: the web sites whose pages may use the server ("https://app.example"), besides its own;
    `hosts`: the names under which it may be called, besides `host` and those of this machine.
    `instruments`: what observes its turns. `greeting`: what `POST /awake` says. `request`: the body of
    `POST /input`, an attrs class that derives from `EZPipeRequest`.
    """

    host: str = "127.0.0.1"
    port: int = attrs.field(default=3421, validator=[attrs.validators.ge(0), attrs.validators.le(65535)])
    insecure: bool = False
    max_body: int = 32 * MIB
    max_sessions: int = 1000
    idle_s: float = 600.0
    turn_s: float = 600.0
    grace_s: float = 5.0
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    debug: bool = False
    instruments: tuple[Instrument, ...] = ()
    greeting: str = "Hello! How can I help you?"
    request: type[EZPipeRequest] = EZPipeRequest

    def __attrs_post_init__(self) -> None:
        if not issubclass(self.request, EZPipeRequest) or "__attrs_attrs__" not in vars(self.request):
            raise EzflowError(
                f"request={self.request.__name__} is no request class: write @attrs.frozen above "
                f"class {self.request.__name__}(EZPipeRequest)."
            )
        attrs.resolve_types(self.request)  # a name in it that does not exist is known at the start
        if not (self.insecure or is_loopback(self.host)):
            raise EzflowError(
                f"host {self.host!r} is reachable from other machines, and nothing would ask who they are: "
                "leave it at 127.0.0.1 behind a proxy, or say insecure=True (--insecure)."
            )

    @property
    def bind(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def limits(self) -> Limits:
        return Limits(
            turn_s=self.turn_s,
            max_sessions=self.max_sessions,
            idle_s=self.idle_s,
            debug=self.debug,
            instruments=self.instruments,
        )


def is_loopback(host: str) -> bool:
    """Is it an address that only this machine reaches?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
