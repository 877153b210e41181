"""All randomness of a run, derived from where it stands.

A stream is named by numbers (seed, step, rank, ...), never carried along: so a resumed run draws
what the uninterrupted one would have drawn, with no generator state to save.
"""

from __future__ import annotations

import hashlib

import torch


def mix(*numbers: int) -> int:
    """Return a seed that depends on all numbers, well spread over 63 bits."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*numbers: int) -> torch.Generator:
    """Return a CPU generator for the stream that the numbers name."""
    return torch.Generator().manual_seed(mix(*numbers))
