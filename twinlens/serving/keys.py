"""API keys: several, each with a scope, compared in constant time.

Only digests are stored. Without keys, anyone may read and write, and admin endpoints are disabled.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from twinlens.errors import InputError
from twinlens.serving.failures import ForbiddenError, UnauthorizedError

Scope = Literal["read", "write", "admin"]

# Each scope includes those before it.
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
_SHORTEST = 8


@dataclass(frozen=True)
class Key:
    """The digest of a key and its scope."""

    scope: Scope
    digest: bytes


class Keyring:
    """The keys of a server."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = tuple(keys)

    def check(self, headers: Mapping[str, str], scope: Scope) -> None:
        """Raise unless a request with these headers has `scope`."""
        if not self._keys:
            if scope == "admin":
                raise ForbiddenError(
                    "admin endpoints are disabled: no admin key is configured; start the server "
                    "with one (--keys FILE or TWINLENS_KEYS)"
                )
            return
        granted = self._find(read_token(headers))
        if granted is None:
            raise UnauthorizedError("the API key is missing or unknown")
        if SCOPES.index(granted) < SCOPES.index(scope):
            raise ForbiddenError(
                f"this key has the scope {granted!r}; this request needs {scope!r}"
            )

    def _find(self, token: str) -> Scope | None:
        """Return the widest scope of `token`; every key is compared, so timing reveals nothing."""
        digest = hashlib.sha256(token.encode()).digest()
        found = [key.scope for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return max(found, key=SCOPES.index, default=None)


def read_token(headers: Mapping[str, str]) -> str:
    """Return the key in a request's headers (their names in lower case), empty if none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key", "")


def parse_keys(text: str) -> tuple[Key, ...]:
    """Return the keys in `scope:key` entries, split at lines, spaces or commas; `#` comments."""
    keys = []
    for line in text.splitlines():
        for entry in re.split(r"[,\s]+", line.partition("#")[0].strip()):
            if entry:
                keys.append(_parse_key(entry))
    return tuple(keys)


def _parse_key(entry: str) -> Key:
    scope, _, secret = entry.partition(":")
    for known in SCOPES:
        if scope == known and len(secret) >= _SHORTEST:
            return Key(known, hashlib.sha256(secret.encode()).digest())
    raise InputError(
        f"a key entry must be SCOPE:KEY with a scope of {', '.join(SCOPES)} and a key of at least "
        f"{_SHORTEST} characters; one with scope {scope[:10]!r} is not",
        field="keys",
    )
