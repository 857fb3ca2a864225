"""What `GET /debug/tree` tells, as far as it is shown, and how it is asked for."""

from __future__ import annotations

import http.client
from collections.abc import Mapping

import attrs
import msgspec

from ..client.address import Address
from ..client.errors import Closed, ConnectFailed, ProtocolError, too_large
from ..client.over_http import refusal

__all__ = ["Fill", "Session", "Stage", "Tree", "Turn", "ask"]

ANSWER_S = 10.0
MOST_BYTES = 16 * 1024 * 1024


@attrs.frozen
class Fill:
    """Of a queue."""

    held: int
    capacity: int


@attrs.frozen
class Stage:
    """One stage at work; what only a server with metrics knows is None."""

    stage: str
    waits_for: str | None
    at: str | None
    join: Fill | None = None
    since_s: float | None = None
    items_in: int | None = None
    items_out: int | None = None


@attrs.frozen
class Run:
    run: int
    stages: tuple[Stage, ...]


@attrs.frozen
class Turn:
    id: int
    flow: str
    age_s: float
    ends_in_s: float | None
    ending: bool
    stuck_s: float | None
    ear: Fill
    runs: tuple[Run, ...]
    more_stages: int


@attrs.frozen
class Session:
    user: str
    holders: int
    idle_s: float | None
    turns: tuple[Turn, ...]


@attrs.frozen
class Sessions:
    count: int
    busy: int
    holders: int
    more: int
    list: tuple[Session, ...]


@attrs.frozen
class Loop:
    lag_s: float
    max_lag_s: float
    blocks: int


@attrs.frozen
class Threads:
    busy: int
    limit: int
    waiting: int


@attrs.frozen
class Module:
    flow: str
    stage: str
    values: Mapping[str, float]


@attrs.frozen
class Tree:
    version: str
    uptime_s: float
    observed: bool
    stopping: bool
    loop: Loop
    threads: Threads
    modules: tuple[Module, ...]
    sessions: Sessions


def ask(address: Address, token: str | None, sessions: int) -> Tree:
    """The tree of a server at this moment. Raises: ConnectFailed; Closed; Refused; ProtocolError."""
    kind = http.client.HTTPSConnection if address.secure else http.client.HTTPConnection
    # Not urllib: it would follow a redirection, with the token.
    connection = kind(address.host, address.port, timeout=ANSWER_S)
    headers = {"Accept": "application/json", "User-Agent": "ezflow"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        try:
            connection.connect()
        except OSError as error:
            raise ConnectFailed(address.url, str(error) or type(error).__name__) from error
        try:
            connection.request("GET", f"{address.path}/debug/tree?sessions={sessions}", headers=headers)
            response = connection.getresponse()
            body = response.read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise Closed(None, str(error) or type(error).__name__) from error
    finally:
        connection.close()
    if len(body) > MOST_BYTES:
        raise too_large(MOST_BYTES)
    if response.status != 200:
        raise refusal(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
    try:
        return msgspec.json.decode(body, type=Tree)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"/debug/tree is not what it should be ({error}): is this an ezflow server?") from error
