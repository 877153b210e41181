"""Exact search: the k largest inner products by blocked GEMM, the reference for all indexes.

Rows times queries, not queries times rows: in this orientation a tall thin GEMM runs near the
machine's limit. A block's scores are compared with the k-th best so far, and only larger ones are
sorted; so selection costs little compared with the GEMM.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.vectors.arrays import Floats, Halves, Mask, RowNumbers, as_float32
from twinlens.index.vectors.native_rescoring import score_natively

BLOCK_BYTES = 16 << 20  # of float32 rows: large enough for the GEMM, small enough for the cache
QUERY_BLOCK = 128
SEED_ROWS = 2048  # sorted first, to get a bound for the other rows
HALF_SCALE = np.float32(2.0**112)  # the exponents of a half begin at -15, of a float32 at -127
SIGN_AND_VALUE = np.int32(-0x70002000)  # the bits of a half that was extended and moved by 13
NO_ROW = -1  # row number of an unfilled place in the answer


def top_k(
    queries: Floats, rows: npt.NDArray[Any], k: int, allowed: Mask | None = None
) -> tuple[Floats, RowNumbers]:
    """Return the k best rows of each query, best first: scores (n, k), rows (n, k).

    `rows` (m, d) may be float16; `allowed` (m,) selects rows. Unfilled places hold -inf and
    `NO_ROW`.
    """
    if allowed is not None:
        chosen = np.flatnonzero(allowed)
        if len(chosen) < len(rows) // 2:
            scores, places = top_k(queries, rows[chosen], k)
            return scores, _through(places, chosen)
    parts = [
        _top_k_block(queries[start : start + QUERY_BLOCK], rows, k, allowed)
        for start in range(0, len(queries), QUERY_BLOCK)
    ]
    if not parts:
        return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def rescore(
    queries: Floats, rows: npt.NDArray[Any], places: RowNumbers, k: int
) -> tuple[Floats, RowNumbers]:
    """Return the k best of each query's own candidates `places` (n, c), by their full rows."""
    if len(queries) == 1 and places.shape[1] >= k and places.min() >= 0:
        # A single query with a full set of candidates, the common case: no padding, no tables.
        own = places[0]
        scores = score_rows(queries[0], rows, own)
        order = np.lexsort((own, -scores))[:k]
        return scores[order][None], own[order][None]
    clipped = np.where(places < 0, 0, places)
    scores = np.stack(
        [score_rows(query, rows, one) for one, query in zip(clipped, queries, strict=True)]
    )
    scores[places < 0] = -np.inf
    return best(scores, places, k)


def score_rows(query: Floats, rows: npt.NDArray[Any], places: RowNumbers) -> Floats:
    """Return the inner product of a unit query with each of some finite rows."""
    if rows.dtype != np.float16:
        plain: Floats = as_float32(rows[places]) @ query
        return plain
    scores = score_natively(query, rows, places)
    return _score_halves(query, rows, places) if scores is None else scores


def _score_halves(query: Floats, rows: Halves, places: RowNumbers) -> Floats:
    """Score by NumPy: halves are not cast, one by one, but their bits moved to a float32's place.

    That leaves each value smaller by `HALF_SCALE`, which the query makes up for.
    """
    wide = rows.view(np.int16).take(places, 0).astype(np.int32)
    wide <<= 13
    wide &= SIGN_AND_VALUE
    scores: Floats = wide.view(np.float32) @ (query * HALF_SCALE)
    return scores


def best(scores: Floats, places: RowNumbers, k: int) -> tuple[Floats, RowNumbers]:
    """Return the k best of (n, c) candidates, best first; ties go to the smaller row."""
    count = scores.shape[1]
    if count < k:
        scores = np.pad(scores, ((0, 0), (0, k - count)), constant_values=-np.inf)
        places = np.pad(places, ((0, 0), (0, k - count)), constant_values=NO_ROW)
    order = np.lexsort((places, -scores), axis=1)[:, :k]
    scores, places = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
    places[np.isneginf(scores)] = NO_ROW
    return scores, places


def _top_k_block(
    queries: Floats, rows: npt.NDArray[Any], k: int, allowed: Mask | None
) -> tuple[Floats, RowNumbers]:
    """Scan the rows once for up to `QUERY_BLOCK` queries."""
    count = len(queries)
    scores = np.full((count, k), -np.inf, dtype=np.float32)
    places = np.full((count, k), NO_ROW, dtype=np.int64)
    transposed = np.ascontiguousarray(queries.T)
    step = max(1, BLOCK_BYTES // (4 * max(1, rows.shape[1])))
    for start in range(0, len(rows), step):
        block = as_float32(rows[start : start + step]) @ transposed  # (step, n)
        if allowed is not None:
            block[~allowed[start : start + step]] = -np.inf
        at = start
        if start == 0 and len(block) > 4 * k:
            first = max(SEED_ROWS, 4 * k)
            scores, places = best(*_seed(block[:first], k), k)
            block, at = block[first:], first
        scores, places = _merge(scores, places, block, at, k)
    return scores, places


def _seed(block: Floats, k: int) -> tuple[Floats, RowNumbers]:
    """Return the k best of the first rows, unsorted."""
    transposed = np.ascontiguousarray(block.T)
    found = np.argpartition(transposed, -k, axis=1)[:, -k:]
    return np.take_along_axis(transposed, found, 1), found.astype(np.int64)


def _merge(
    scores: Floats, places: RowNumbers, block: Floats, start: int, k: int
) -> tuple[Floats, RowNumbers]:
    """Merge one block's scores into the best so far."""
    # Flattened: NumPy finds few set flags several times faster in a flat array than in 2-D.
    flat = np.flatnonzero(block > scores[:, -1])
    if not len(flat):
        return scores, places
    row, query = np.divmod(flat, len(scores))
    order = np.argsort(query, kind="stable")
    row, query = row[order], query[order]
    first = np.searchsorted(query, np.arange(len(scores)))
    slot = np.arange(len(query)) - first[query]
    width = int(slot.max()) + 1
    new_scores = np.full((len(scores), width), -np.inf, dtype=np.float32)
    new_places = np.full((len(scores), width), NO_ROW, dtype=np.int64)
    new_scores[query, slot] = block[row, query]
    new_places[query, slot] = row + start
    return best(
        np.concatenate([scores, new_scores], axis=1),
        np.concatenate([places, new_places], axis=1),
        k,
    )


def _through(places: RowNumbers, chosen: RowNumbers) -> RowNumbers:
    """Map positions within `chosen` back to rows; unfilled places stay unfilled."""
    if not len(chosen):
        return places
    return np.where(places < 0, NO_ROW, chosen[np.maximum(places, 0)])
