"""Where a server is: one URL for HTTP and for the WebSocket."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import attrs

from ..errors import SettingsError

__all__ = ["Address", "naming"]

SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


@attrs.frozen
class Address:
    """A server, and the path of a flow on it."""

    scheme: str
    netloc: str
    path: str = ""

    @classmethod
    def of(cls, url: str) -> Address:
        """Read `http://HOST:PORT`, also with https, ws or wss, and with a path.

        Raises: SettingsError; it tells nothing of a password.
        """
        wrong = SettingsError("a server's URL is needed, like http://127.0.0.1:3421 or https://example.org/voice.")
        try:
            parts = urlsplit(url)
            port = parts.port
            (parts.hostname or "").encode("idna")
        except ValueError:
            raise wrong from None
        if parts.scheme not in SCHEMES or not parts.hostname or port == 0 or not parts.netloc.isascii():
            raise wrong
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise SettingsError("a server's URL has no user, password, query or fragment: a token goes to `token`.")
        return cls(SCHEMES[parts.scheme], parts.netloc, quote(parts.path.rstrip("/"), safe="/%"))

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.secure else 80)

    def under(self, name: str) -> Address:
        """The same server, one name further down."""
        return attrs.evolve(self, path=f"{self.path}/{quote(name, safe='')}")


def naming(path: str, user: str) -> str:
    """A path that names a user, though the body may too: a proxy before several servers sees no bodies.

    One user is always written in one way, which JavaScript's and C#'s clients write too.
    """
    return f"{path}?user={quote(user, safe='')}"
