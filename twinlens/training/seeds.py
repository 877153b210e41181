"""All randomness of a run, derived from where it stands.

A stream is named by numbers (seed, step, rank, ...), never carried along: so a resumed run draws
what the uninterrupted one would have drawn, with no generator state to save.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def mix(*numbers: int) -> int:
    """Return a seed that depends on all numbers, well spread over 63 bits."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*numbers: int) -> torch.Generator:
    """Return a CPU generator for the stream that the numbers name."""
    return torch.Generator().manual_seed(mix(*numbers))


def row_seeds(seed: int, view: int, records: Sequence[int]) -> list[int]:
    """Return a seed for view number `view` of each record, whatever batch it is in."""
    return [mix(seed, view, record, 53) for record in records]
