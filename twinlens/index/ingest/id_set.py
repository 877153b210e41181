"""A set of ids in sixteen bytes each: what a build has seen of a corpus of any size.

It holds hashes of 128 bits, sorted, in a few arrays of growing length; the newest are in a plain
set. Two ids of one hash would be taken for the same: among 100 million, by a chance of 1e-23.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from twinlens.index.vectors.arrays import Mask

HASH_BYTES = 16
RECENT = 65_536  # hashes in the plain set
Hashes = npt.NDArray[np.bytes_]


class IdSet:
    """Ids can be added and asked for."""

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._sorted: list[Hashes] = []  # each longer than the next

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._sorted))

    def add(self, name: str) -> None:
        """Add an id that is not in the set."""
        self._recent.add(_hash(name))
        if len(self._recent) >= RECENT:
            self._settle()

    def has(self, ids: Sequence[str]) -> Mask:
        """Return one flag per id: whether it was added."""
        hashes = [_hash(name) for name in ids]
        found = np.fromiter((one in self._recent for one in hashes), bool, len(hashes))
        wanted = np.array(hashes, dtype=f"S{HASH_BYTES}")
        for held in self._sorted:
            places = np.minimum(np.searchsorted(held, wanted), len(held) - 1)
            found |= held[places] == wanted
        return found

    def _settle(self) -> None:
        """Move the newest into a sorted array, joined with shorter ones."""
        hashes = np.array(list(self._recent), dtype=f"S{HASH_BYTES}")
        self._recent = set()
        while self._sorted and len(self._sorted[-1]) <= len(hashes):
            hashes = np.concatenate([self._sorted.pop(), hashes])
        hashes.sort(kind="stable")
        self._sorted.append(hashes)


def _hash(name: str) -> bytes:
    # A name may be arbitrary bytes of a file system.
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()
