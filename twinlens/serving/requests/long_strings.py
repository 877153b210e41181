"""JSON bodies of megabytes: their long strings are parsed one by one, others are served between.

A pass over a body costs 1.5 ns a byte on the event loop, so 64 images held up everybody for 8 ms.
What must stay true: the same bodies are accepted as by one pass, with the same values.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

_BACKSLASH = 0x5C
_LONG = 4096  # bytes of a string that is parsed apart
_MOST_STRINGS = 20_000  # looked at; what follows is parsed in one pass
_STRING_COST = 256  # bytes that are parsed in the time that it takes to look at a string
_TURN_BYTES = 512 * 1024  # about a millisecond


GiveWay = Callable[[float], Awaitable[None]]  # has others served after so many seconds of work


class ParsedBody(bytes):
    """A JSON body without its long strings, and the whole value."""

    value: Any


async def parse_apart(body: bytes, give_way: GiveWay) -> bytes:
    """Return a JSON body together with its value; one that is not valid as it is."""
    strings = _LongStrings(body)
    try:
        began = time.monotonic()
        while strings.parse_some():
            await give_way(time.monotonic() - began)
            began = time.monotonic()
        value = orjson.loads(strings.outline)
    except orjson.JSONDecodeError:
        return body
    parsed = ParsedBody(strings.outline)
    parsed.value = _put_back(value, strings.found)
    return parsed


class _LongStrings:
    """Takes the long strings out of a body; names that nobody can guess stand for them."""

    def __init__(self, body: bytes) -> None:
        self.found: dict[str, str] = {}
        self._body = body
        self._at = 0
        self._copied = 0
        self._parts: list[bytes] = []
        self._looked_at = 0
        self._secret = secrets.token_hex(16)

    def parse_some(self) -> bool:
        """Parse for about a millisecond; return whether there is more to do."""
        body, cost = self._body, 0
        while cost < _TURN_BYTES:
            start = body.find(b'"', self._at)
            end = -1 if start < 0 else _find_end(body, start)
            if end < 0 or self._looked_at == _MOST_STRINGS:
                return False
            self._looked_at += 1
            self._at = end + 1
            cost += _STRING_COST
            if end - start > _LONG:
                self._take_out(start, end + 1)
                cost += end - start
        return True

    def _take_out(self, start: int, end: int) -> None:
        name = f"{self._secret}{len(self.found)}"
        self.found[name] = orjson.loads(memoryview(self._body)[start:end])
        self._parts += (self._body[self._copied : start], f'"{name}"'.encode())
        self._copied = end

    @property
    def outline(self) -> bytes:
        """The body with names for what was taken out."""
        return b"".join((*self._parts, self._body[self._copied :]))


def _find_end(body: bytes, start: int) -> int:
    """Return where the string that begins at `start` ends, or -1."""
    at = start + 1
    while (end := body.find(b'"', at)) >= 0:
        before = body[at:end] if body[end - 1] == _BACKSLASH else b""
        if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0:
            return end
        at = end + 1
    return -1


def _put_back(value: Any, found: dict[str, str]) -> Any:
    """Return a value with the strings that were taken out."""
    if not found:
        return value
    whole = [value]
    left: list[Any] = [whole]
    while left:  # not by recursion: bodies may be deeper than the interpreter's stack
        box = left.pop()
        if isinstance(box, dict):
            items = [(found.get(name, name), one) for name, one in box.items()]
            box.clear()
            box.update(items)
        for place, one in box.items() if isinstance(box, dict) else enumerate(box):
            if isinstance(one, str):
                box[place] = found.get(one, one)
            elif isinstance(one, (dict, list)):
                left.append(one)
    return whole[0]
