"""Hashes of the blocks of a file, so that a reader checks only the blocks that it reads.

The table of hashes is a file of its own, whose hash is in the catalog like that of any other.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twinlens.errors import CollectionError
from twinlens.index.vectors.arrays import RowNumbers, load_array

BLOCK_BYTES = 32_768  # thirty scattered rows cost one megabyte of hashing
SUMS_NAME = "embeddings.sums.npy"
DIGEST_BYTES = hashlib.sha256().digest_size

Bytes = npt.NDArray[np.uint8]


def write_sums(path: Path) -> None:
    """Write the hashes of a finished file's blocks beside it."""
    with path.open("rb") as handle:
        digests = [_digest(block) for block in iter(lambda: handle.read(BLOCK_BYTES), b"")]
    table = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
    np.save(path.parent / SUMS_NAME, table, allow_pickle=False)


class CheckedBlocks:
    """A mapped file whose blocks are each checked once, when first read."""

    def __init__(self, path: Path, raw: Bytes, sums: Bytes) -> None:
        """`sums` is the table as a file, whose bytes were checked."""
        self._path = path
        self._raw = raw
        self._digests: Bytes = load_array(io.BytesIO(sums.tobytes()))
        self._is_sound = np.zeros(len(self._digests), bool)

    def check(self, starts: RowNumbers, width: int) -> None:
        """Check the blocks that hold `width` bytes from each start on; raise if one is damaged."""
        first, last = starts // BLOCK_BYTES, (starts + width - 1) // BLOCK_BYTES
        reach = np.arange(width // BLOCK_BYTES + 2)
        blocks = np.minimum(first[:, None] + reach, last[:, None]).ravel()
        for block in np.unique(blocks[~self._is_sound[blocks]]).tolist():
            start = block * BLOCK_BYTES
            found = _digest(self._raw[start : start + BLOCK_BYTES].data)
            if found != self._digests[block].tobytes():
                raise CollectionError(
                    f"{self._path} is damaged: the sha256 of its bytes from {start} on is not the"
                    " published one; restore the collection from a copy, or build it again in a"
                    " new folder"
                )
            self._is_sound[block] = True


def _digest(block: bytes | memoryview) -> bytes:
    return hashlib.sha256(block).digest()
