"""What the HTTP parser leaves unchecked in a head: versions, hosts and transfer encodings.

What must stay true: a head that two servers could read differently is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]{0,5})?")


def find_fault(headers: list[tuple[bytes, bytes]], version: str) -> str:
    """Return what is wrong with a head, or nothing."""
    if version not in ("1.1", "1.0"):
        return "this server speaks HTTP/1.1 and HTTP/1.0 only"
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _is_host(value):
                return "the Host header is not a host"
        elif name == b"transfer-encoding" and (value.lower() != b"chunked" or version == "1.0"):
            return "the only Transfer-Encoding is chunked, and only in HTTP/1.1"
    if hosts != 1 and (hosts or version == "1.1"):
        return f"the request has {hosts} Host headers; it must have one"
    return ""


@lru_cache(64)  # few names, asked for again and again
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def write_plain_head(
    method: bytes, url: bytes, version: str, headers: list[tuple[bytes, bytes]]
) -> bytes:
    """Return a head without its request for another protocol."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"upgrade":
            continue
        if name == b"connection":
            options = [option.strip() for option in value.split(b",")]
            value = b", ".join(o for o in options if o.lower() != b"upgrade")
        lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join([*lines, b"", b""])
