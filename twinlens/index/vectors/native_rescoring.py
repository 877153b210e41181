"""Scores candidates by their full rows in C, and copies what is shown of the best.

Must stay true: the order of NumPy's way (`exact.rescore`), and scores that differ by rounding only.
The library is compiled where the package is built; where it is missing, or does not load, NumPy
does the same, only slower. It is given arrays that were checked, and reads nothing outside of them.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from twinlens.index.vectors.arrays import Floats, Halves, RowNumbers

MOST = 100  # answers: more are as fast by NumPy
ROOM = 32_768  # bytes for the records of one search, at first
_TOO_FEW = -1
_PAIR = 16  # bytes of a score and its row
_SCORES = tuple(struct.Struct(f"={k}d") for k in range(MOST + 1))
_PLACES = tuple(struct.Struct(f"={k}q") for k in range(MOST + 1))

log = logging.getLogger(__name__)


class _Rows(ctypes.Structure):
    _fields_ = (
        ("halves", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("dim", ctypes.c_int64),
        ("text", ctypes.c_void_p),
        ("text_bytes", ctypes.c_int64),
        ("table", ctypes.c_void_p),
    )


class _Desk:
    """Memory that the answers of one search are written to."""

    def __init__(self, room: int) -> None:
        self._memory = np.empty(room, np.uint8)
        self.room = room
        self.address = self._memory.ctypes.data
        self.bytes = memoryview(self._memory)  # type: ignore[arg-type]


class RowTable:
    """Rows (m, d) as halves, and beside them `text`, JSON that `entries` (m,) point into.

    An entry is the start of a row's text, its length and an unused number (`<i8`, `<u4`, `<u4`).
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        halves: Halves,
        text: npt.NDArray[np.uint8],
        entries: npt.NDArray[np.void],
    ) -> None:
        self._arrays = halves, text, entries  # the library has their addresses only
        self._rows = _Rows(
            *(halves.ctypes.data, *halves.shape, text.ctypes.data, text.nbytes, entries.ctypes.data)
        )
        self._address = ctypes.addressof(self._rows)
        self._answer = library.twinlens_answer
        self._desks: list[_Desk] = []  # free ones; a search takes one, or makes one

    def answer(
        self,
        query: Floats,
        candidates: npt.NDArray[np.uint32] | RowNumbers,
        k: int,
        *,
        with_rows: bool = False,
    ) -> tuple[tuple[float, ...], list[Any], tuple[int, ...]] | None:
        """Return scores, texts and rows of the k best candidates, best first, or None if fewer.

        `query` (1, d) is of unit length; the largest number, or -1, is no candidate. k <= `MOST`.
        Without `with_rows` no rows are returned.
        """
        try:
            desk = self._desks.pop()
        except IndexError:
            desk = _Desk(ROOM)
        found = self._answer(
            self._address,
            query.tobytes(),
            candidates.tobytes(),
            candidates.itemsize == 8,
            candidates.size,
            k,
            desk.address,
            desk.room,
        )
        if found == _TOO_FEW:
            self._desks.append(desk)
            return None
        if found < 0:
            self._desks.append(_Desk(2 * (_PAIR * k - found)))
            return self.answer(query, candidates, k, with_rows=with_rows)
        scores = _SCORES[k].unpack_from(desk.bytes)
        rows = _PLACES[k].unpack_from(desk.bytes, 8 * k) if with_rows else ()
        texts = orjson.loads(desk.bytes[_PAIR * k : _PAIR * k + found])
        self._desks.append(desk)
        return scores, texts, rows


def score_natively(query: Floats, rows: Halves, places: RowNumbers) -> Floats | None:
    """Return the inner product of a query with each of some rows, or None without the library."""
    library = load_library()
    if library is None or not rows.flags.c_contiguous:
        return None
    if len(places) and not 0 <= places.min() <= places.max() < len(rows):
        raise IndexError(f"rows {places.min()} to {places.max()} of {len(rows)}")
    scores = np.empty(len(places), np.float32)
    library.twinlens_score(
        rows.ctypes.data,
        rows.shape[1],
        np.ascontiguousarray(query, np.float32).tobytes(),
        np.ascontiguousarray(places, np.int64).tobytes(),
        len(places),
        scores.ctypes.data,
    )
    return scores


def open_row_table(
    halves: Halves, text: npt.NDArray[np.uint8], entries: npt.NDArray[np.void]
) -> RowTable | None:
    """Return rows and their texts for the library, or None without it."""
    library = load_library()
    is_plain = halves.flags.c_contiguous and text.flags.c_contiguous and entries.flags.c_contiguous
    if library is None or not is_plain or len(halves) != len(entries):
        return None
    return RowTable(library, halves, text, entries)


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """Return the library, or None where it was not compiled or cannot be loaded."""
    return _load(Path(__file__).parent) if sys.byteorder == "little" else None


def _load(folder: Path) -> ctypes.CDLL | None:
    for path in sorted(folder.glob("_rescoring*")):
        if path.suffix in (".so", ".pyd"):
            try:
                return _declare(ctypes.CDLL(str(path)))
            except (OSError, AttributeError) as error:  # of another machine, or another version
                log.warning("the compiled rescoring does not load; not used: %s", error)
                return None
    return None


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    number, memory = ctypes.c_int64, ctypes.c_void_p
    library.twinlens_score.restype = None
    library.twinlens_score.argtypes = (memory, number, memory, memory, number, memory)
    library.twinlens_answer.restype = number
    library.twinlens_answer.argtypes = (
        *(memory, memory, memory, ctypes.c_int32, number, number, memory, number),
    )
    return library
