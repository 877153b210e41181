"""Joins two ranked lists into one: by reciprocal ranks, or by scores scaled to 0..1.

A cosine and a BM25 score have no common unit. Ranks need none, which is why they are the default;
weights help where one list is known to be the better one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RANKS, WEIGHTS = "ranks", "weights"
RANK_OFFSET = 60  # how little the first ranks stand out, as usual for reciprocal ranks

Ranked = Sequence[tuple[int, float]]  # (rid, score), best first


def fuse(vector: Ranked, words: Ranked, method: str, balance: float) -> list[tuple[int, float]]:
    """Return (rid, fused score), best first; `balance` is the weight of the words."""
    scale = _reciprocal if method == RANKS else _scaled
    fused: dict[int, float] = {}
    for ranked, weight in ((vector, 1 - balance), (words, balance)):
        for rid, score in scale(ranked).items():
            fused[rid] = fused.get(rid, 0.0) + weight * score
    return sorted(fused.items(), key=lambda one: (-one[1], one[0]))


def _reciprocal(ranked: Ranked) -> Mapping[int, float]:
    return {rid: 1 / (RANK_OFFSET + rank) for rank, (rid, _) in enumerate(ranked, start=1)}


def _scaled(ranked: Ranked) -> Mapping[int, float]:
    """Return scores between 0 (the last) and 1 (the first)."""
    if not ranked:
        return {}
    high, low = ranked[0][1], ranked[-1][1]
    span = high - low
    return {rid: (score - low) / span if span else 1.0 for rid, score in ranked}
