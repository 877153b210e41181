"""All randomness of a run, derived from its position.

What must stay true: a stream is identified by numbers (seed, step, rank, ...) and has no state to
save, so that a resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def mix(*numbers: int) -> int:
    """Return a seed that depends on all numbers, spread over 63 bits."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*numbers: int) -> torch.Generator:
    """Return a CPU generator for the stream that the numbers identify."""
    return torch.Generator().manual_seed(mix(*numbers))


def row_seeds(seed: int, view: int, records: Sequence[int]) -> list[int]:
    """Return a seed for view number `view` of each record, independent of its batch."""
    return [mix(seed, view, record, 53) for record in records]
