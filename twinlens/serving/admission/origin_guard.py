"""Decides from which pages, and under which host names, a browser may call this server.

A browser sends what any page tells it to, also to addresses that only its own machine reaches.
What must stay true: no page of another origin changes anything here unless CORS allows its origin,
and no page reaches a server on the loopback address by a domain name of its own (DNS rebinding).
Programs send neither `Origin` nor `Sec-Fetch-Site`, so this does not affect them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from twinlens.errors import TwinlensError
from twinlens.serving.failures import ForbiddenError, HostError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_MOST_SEEN = 64
_READING = ("GET", "HEAD", "OPTIONS")
_PORTS = {"http": ":80", "https": ":443"}


class OriginGuard:
    """Checks requests by the headers that browsers add."""

    def __init__(self, hosts: Collection[str], origins: Collection[str]) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)  # empty: any
        self._seen: set[bytes] = set()  # Host headers that were found to be among them
        self._origins = frozenset(origins)

    def find_fault(
        self, method: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> TwinlensError | None:
        """Return why a request is not answered, or None."""
        host = origin = site = b""
        for name, value in headers:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
        if self._hosts and host and host not in self._seen and not self._is_known(host):
            return HostError(
                f"this server does not accept the host {host[:80].decode('latin-1')!r}; to allow "
                "it, start the server with --allow-host NAME",
                field="Host",
            )
        if (origin or site) and method not in _READING and self._is_foreign(host, origin, site):
            return ForbiddenError(
                "a page of another origin may not send this; to allow it, start the server with "
                "--set cors_origins=ORIGIN",
                field="Origin",
                code="origin_not_allowed",
            )
        return None

    def _is_known(self, host: bytes) -> bool:
        """Whether a Host header is one of the names; ports are ignored."""
        if _name_of(host) not in self._hosts:
            return False
        if len(self._seen) < _MOST_SEEN:
            self._seen.add(host)
        return True

    def _is_foreign(self, host: bytes, origin: bytes, site: bytes) -> bool:
        """Whether a page sent this whose origin is neither the server's own nor allowed."""
        named = origin.decode("latin-1")
        if "*" in self._origins or named in self._origins:
            return False
        if site:  # the browser's own word; a page cannot set it
            return site not in (b"same-origin", b"none")
        scheme, _, authority = named.lower().partition("://")
        own = host.decode("latin-1").lower()
        return own not in (authority, authority + _PORTS.get(scheme, ""))


def list_hosts(address: str, more: Iterable[str]) -> frozenset[str]:
    """Return the Host names that a server at `address` accepts; none: any.

    On other addresses than loopback, any name is accepted unless `more` lists some.
    """
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    named = frozenset(more)
    return named.union(LOOPBACK_NAMES) if named or is_loopback else named


def _name_of(host: bytes) -> str:
    """Return a Host header without its port."""
    text = host.decode("latin-1").lower()
    name = text.rpartition(":")[0] if not text.endswith("]") and ":" in text else text
    return name.rstrip(".")
