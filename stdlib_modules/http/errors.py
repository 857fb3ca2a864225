"""What a model server can do wrong, each with its facts as attributes.

* BackendError           (an EzflowError) `.server .url .problem .advice .status .body .transient .retry_after_s`
  + BackendUnreachable   no connection: refused, unknown name, not trusted, a proxy that does not let through
  + BackendTimeout       it fell silent, or took longer in all than it may (also a TimeoutError)
  + BackendRefused       it answered with a status of 300 or more, or with a document that was not asked for
  + BackendBroken        its answer broke off, or is not what it should be
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from ezflow import EzflowError

__all__ = ["BackendBroken", "BackendError", "BackendRefused", "BackendTimeout", "BackendUnreachable", "Faults"]
__all__ += ["excerpt", "secrets_of"]

EXCERPT = 200
PUBLIC = {"accept", "accept-encoding", "content-length", "content-type", "host", "user-agent"}


class BackendError(EzflowError):
    """A model server failed: the message says which one, at which URL, how, and what to try.

    `body` is how its answer began, at most 200 characters. `transient` says that the same request may succeed later and
    that nothing has been done for it yet; `retry_after_s` is when, if the server said so.
    """

    expected = True

    def __init__(
        self,
        server: str,
        url: str,
        problem: str,
        *,
        advice: str = "",
        status: int | None = None,
        body: str = "",
        transient: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{server} at {url} {problem}" + (f": {advice}" if advice else ""))
        self.server = server
        self.url = url
        self.problem = problem
        self.advice = advice
        self.status = status
        self.body = body
        self.transient = transient
        self.retry_after_s = retry_after_s


class BackendUnreachable(BackendError):
    """No connection to it could be made."""


class BackendTimeout(BackendError, TimeoutError):
    """It is there, but takes too long."""


class BackendRefused(BackendError):
    """It answered, and the answer is no."""


class BackendBroken(BackendError):
    """Its answer broke off, or is not what it should be."""


class NoWay(Exception):
    """There is no connection: why, what to try, and whether there may be one later."""

    def __init__(self, problem: str, advice: str = "", transient: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice
        self.transient = transient


class Unheard(Exception):
    """A connection ended before anything of an answer came."""


class Broken(Exception):
    """A connection ended within an answer, or what came is not HTTP."""


class Expired(Exception):
    """A server was waited for until the deadline."""


@attrs.frozen
class Faults:
    """Makes the errors of one request; nothing secret among its headers gets into one."""

    server: str
    url: str
    advice: Mapping[int | str, str]
    headers: Mapping[str, str] = attrs.field(repr=False)

    def unreachable(self, fault: NoWay) -> BackendUnreachable:
        advice = fault.advice or self.advice.get("unreachable", "start it, or give another url")
        return BackendUnreachable(self.server, self.url, fault.problem, advice=advice, transient=fault.transient)

    def timeout(self, problem: str, advice: str | None = None) -> BackendTimeout:
        advice = advice or self.advice.get("timeout", "see whether it is overloaded, or give it more time")
        return BackendTimeout(self.server, self.url, problem, advice=advice)

    def broken(self, problem: str, body: bytes = b"") -> BackendBroken:
        advice = self.advice.get("broken", "see what it has logged")
        return BackendBroken(self.server, self.url, problem, advice=advice, body=self._excerpt(body))

    def refused(self, status: int, body: bytes, retry_after: str = "", location: str = "") -> BackendRefused:
        told = self._excerpt(body)
        advice = self.advice.get(status, "")
        if location and not advice:
            advice = f"it sends requests on to {location.partition('?')[0]}: give that url"
        return BackendRefused(
            self.server,
            self.url,
            f"answered {status}" + (f": {told}" if told else ""),
            advice=advice,
            status=status,
            body=told,
            transient=status in (429, 502, 503),
            retry_after_s=float(retry_after) if retry_after.isdecimal() else None,
        )

    def _excerpt(self, body: bytes) -> str:
        return excerpt(body, secrets_of(self.headers))


def secrets_of(headers: Mapping[str, str]) -> Iterator[str]:
    """What headers hold that a server may repeat, such as a key it does not accept."""
    for name, value in headers.items():
        if name.lower() not in PUBLIC:
            yield from sorted({value, *value.replace(";", " ").split()} - {"Bearer", "Basic"}, key=len, reverse=True)


def excerpt(body: bytes, secrets: Iterable[str] = ()) -> str:
    """What a server says in the body of an answer, in at most 200 characters on one line, without `secrets`.

    Of a JSON object it is the text under `error`, `message` (with `Exception`, if there is one), `detail` or `msg`.
    """
    text = body.decode(errors="replace")
    try:
        text = _told(json.loads(text)) or text
    except (ValueError, RecursionError):
        pass
    shown = " ".join(text.split())
    for secret in secrets:
        shown = shown.replace(secret, "***") if len(secret) > 3 else shown
    return shown if len(shown) <= EXCERPT else f"{shown[: EXCERPT - 1]}…"


def _told(value: Any) -> str | None:
    if isinstance(value, dict):
        if isinstance(why := value.get("Exception"), str) and isinstance(what := value.get("message"), str):
            return f"{what}: {why}"
        for key in ("error", "message", "detail", "msg"):
            if found := _told(value.get(key)):
                return found
    return value if isinstance(value, str) else None
