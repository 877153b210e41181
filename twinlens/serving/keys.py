"""API keys: each with a scope and an optional name, compared in constant time.

Only digests are stored. Without keys, anyone may read and write, and admin endpoints are disabled.
What must stay true: a key over its rate limit is refused before its body is read, and does not
delay other keys.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from twinlens.errors import InputError, OverloadedError
from twinlens.serving.clock import Clock
from twinlens.serving.failures import ForbiddenError, UnauthorizedError

Scope = Literal["read", "write", "admin"]

# Each scope includes those before it.
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
_SHORTEST = 8
_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")


@dataclass(frozen=True)
class Key:
    """The digest of a key, its scope, and the name that logs show."""

    scope: Scope
    digest: bytes
    name: str = ""


class Keyring:
    """The keys of a server, and how many requests each may still send."""

    def __init__(
        self, keys: Iterable[Key] = (), per_minute: int = 0, clock: Clock | None = None
    ) -> None:
        self._keys = tuple(keys)
        self._rates = {key.digest: RequestRate(per_minute, clock or Clock()) for key in self._keys}

    def check(self, headers: Mapping[str, str], scope: Scope) -> str:
        """Return the name of the request's key; raise if it lacks `scope` or exceeds its rate."""
        if not self._keys:
            if scope == "admin":
                raise ForbiddenError(
                    "admin endpoints are disabled: no admin key is configured; start the server "
                    "with one (--keys FILE or TWINLENS_KEYS)"
                )
            return ""
        granted = self._find(read_token(headers))
        if granted is None:
            raise UnauthorizedError("the API key is missing or unknown")
        if SCOPES.index(granted.scope) < SCOPES.index(scope):
            raise ForbiddenError(
                f"this key has the scope {granted.scope!r}; this request needs {scope!r}"
            )
        self._rates[granted.digest].count()
        return granted.name

    def share(self, rates: Mapping[bytes, RequestRate]) -> None:
        """Use the rates that several processes share, by the digests of the keys."""
        self._rates = dict(rates)

    def recognise(self, headers: Mapping[str, str]) -> None:
        """Raise unless the request's key is known; count nothing."""
        if self._keys and self._find(read_token(headers)) is None:
            raise UnauthorizedError("the API key is missing or unknown")

    def _find(self, token: str) -> Key | None:
        """Return the entry of `token` with the widest scope.

        Every key is compared, so timing reveals nothing.
        """
        digest = hashlib.sha256(token.encode()).digest()
        found = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return max(found, key=lambda key: SCOPES.index(key.scope), default=None)


class RequestRate:
    """The rate limit of one key: one minute's requests at once, refilled continuously."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._most = per_minute  # 0: any number
        self._clock = clock
        self._left = float(per_minute)
        self._since = clock.now()

    def count(self) -> None:
        """Count one request; raise if the key has none left."""
        if not self._most:
            return
        now = self._clock.now()
        self._left = min(self._most, self._left + (now - self._since) * self._most / 60)
        self._since = now
        if self._left < 1:
            raise OverloadedError(
                f"this key has sent its {self._most} requests a minute "
                "(limits.key_requests_per_minute); try again later",
                retry_after=(1 - self._left) * 60 / self._most,
            )
        self._left -= 1


def read_token(headers: Mapping[str, str]) -> str:
    """Return the key in a request's headers (their names in lower case), empty if none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key", "")


def parse_keys(text: str) -> tuple[Key, ...]:
    """Return the keys in `[name=]scope:key` entries, split at lines, spaces or commas.

    What follows a `#` is a comment.
    """
    keys = []
    for line in text.splitlines():
        for entry in re.split(r"[,\s]+", line.partition("#")[0].strip()):
            if entry:
                keys.append(_parse_key(entry))
    return tuple(keys)


def _parse_key(entry: str) -> Key:
    left, _, secret = entry.partition(":")
    name, _, scope = left.rpartition("=")
    for known in SCOPES:
        if scope == known and len(secret) >= _SHORTEST and (not name or _NAME.fullmatch(name)):
            return Key(known, hashlib.sha256(secret.encode()).digest(), name)
    raise InputError(
        f"a key entry must be SCOPE:KEY or NAME=SCOPE:KEY with a scope of {', '.join(SCOPES)}, a "
        f"key of at least {_SHORTEST} characters and a name of letters, digits, . _ and -; one with"
        f" scope {scope[:10]!r} is not",
        field="keys",
    )
