"""Checks the bytes of SQLite's write-ahead log.

SQLite treats the first frame with a bad checksum as the end of the log, so that a flipped byte
silently discards all later commits. The format is fixed by SQLite
(https://www.sqlite.org/walformat.html). Its checksum is a recurrence over pairs of words,
s0 += x0 + s1 and s1 += x1 + s0 modulo 2^32, which is linear: one matrix product gives
the contribution of every frame.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
BLOCK = 2048  # frames that are checked at a time
_MAGIC = 0x377F0682  # the lowest bit tells that words are big-endian
_MASK = 0xFFFFFFFF
_Pair = tuple[int, int]


def salt_of(log: bytes) -> bytes:
    """Return the eight random bytes of this cycle of the log; empty for an empty log."""
    return log[16:24]


def is_header_sound(log: bytes) -> bool:
    """Return whether the header is intact; an empty log has none."""
    header = log[:HEADER_BYTES]
    if not header.strip(b"\0"):
        return True
    if len(header) < HEADER_BYTES or int.from_bytes(header[:4], "big") & ~1 != _MAGIC:
        return False
    words = np.frombuffer(header[:24], _word_type(header)).tolist()
    return _fold((0, 0), words) == _stored(header[24:32])


def frame_end(header: bytes, frames: int) -> int:
    """Return the size of a log up to the end of its n-th frame."""
    return HEADER_BYTES + frames * (FRAME_HEADER_BYTES + _page_size(header))


def is_commit(frame: bytes) -> bool:
    """Return whether a frame, of which the header is enough, is the last one of its commit."""
    return frame[4:8] != bytes(4)


def find_bad_frame(log: BinaryIO, size: int) -> int | None:
    """Return the number, from 1, of the first frame before `size` bytes that is damaged or cut.

    The log is read in blocks: that of a large deletion takes more room than memory may have.
    """
    log.seek(0)
    header = log.read(HEADER_BYTES)
    page = _page_size(header)
    frame = FRAME_HEADER_BYTES + page
    wanted = (size - HEADER_BYTES) // frame
    state, number = _stored(header[24:32]), 0
    while number < wanted:
        raw = log.read(frame * min(BLOCK, wanted - number))
        for found in _states_of(header, raw, state):
            number += 1
            if found is None:
                return number
            state = found
        if len(raw) < frame:
            return number + 1
    return None


def _states_of(header: bytes, raw: bytes, state: _Pair) -> Iterator[_Pair | None]:
    """Yield the checksum after each whole frame of a block, None for a damaged one."""
    page = _page_size(header)
    frame = FRAME_HEADER_BYTES + page
    table = np.frombuffer(raw, np.uint8, len(raw) // frame * frame).reshape(-1, frame)
    salts = table[:, 8:16] == np.frombuffer(salt_of(header), np.uint8)
    covered = np.ascontiguousarray(np.concatenate([table[:, :8], table[:, 24:]], axis=1))
    words = covered.view(_word_type(header)).astype(np.uint32)
    added = (words @ _weights(page)).tolist()
    power = _power((8 + page) // 8)
    for place, (one, has_salt) in enumerate(zip(added, salts.all(axis=1), strict=True)):
        state = _step(power, state, one)
        is_sound = has_salt and state == _stored(bytes(table[place, 16:24]))
        yield state if is_sound else None


def _page_size(header: bytes) -> int:
    return int.from_bytes(header[8:12], "big") or 65_536


def _word_type(header: bytes) -> str:
    return ">u4" if header[3] & 1 else "<u4"


def _stored(raw: bytes) -> _Pair:
    return int.from_bytes(raw[:4], "big"), int.from_bytes(raw[4:], "big")


def _fold(state: _Pair, words: Sequence[int]) -> _Pair:
    first, second = state
    for place in range(0, len(words), 2):
        first = (first + words[place] + second) & _MASK
        second = (second + words[place + 1] + first) & _MASK
    return first, second


def _step(power: tuple[int, int, int, int], state: _Pair, added: Sequence[int]) -> _Pair:
    a, b, c, d = power
    return (
        (a * state[0] + b * state[1] + added[0]) & _MASK,
        (c * state[0] + d * state[1] + added[1]) & _MASK,
    )


@functools.cache
def _weights(page: int) -> npt.NDArray[np.uint32]:
    """Return the weight of each word of a frame in its checksum: (words, 2)."""
    weights = np.empty((2 + page // 4, 2), np.uint32)
    first, second = (1, 1), (0, 1)  # of x0 and x1 in the last pair
    for place in range(len(weights) - 2, -1, -2):
        weights[place], weights[place + 1] = first, second
        first, second = _fold(first, (0, 0)), _fold(second, (0, 0))
    return weights


@functools.cache
def _power(pairs: int) -> tuple[int, int, int, int]:
    """Return the matrix that the recurrence applies to a state over this many pairs."""
    zeros = (0,) * (2 * pairs)
    (a, c), (b, d) = _fold((1, 0), zeros), _fold((0, 1), zeros)
    return a, b, c, d
