"""Synthetic items in blocks: embeddings, ids, and metadata of a path and a caption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from worlds.embeddings import PIECE, Rows, draw_images, make_queries

from twinlens.index.ann.words import WORDS

CAPTION_WORDS = 6


@dataclass(frozen=True)
class Block:
    """Items that are written together."""

    ids: list[str]
    rows: Rows
    metadata: list[dict[str, str]]


def make_blocks(count: int, dim: int, size: int) -> Iterator[Block]:
    """Yield `count` items in blocks of `size`, a multiple of the world's `PIECE`."""
    if size % PIECE:
        raise ValueError(f"size is {size}; it must be a multiple of {PIECE}")
    for start in range(0, count, size):
        here = min(size, count - start)
        words = np.random.default_rng([7, start]).integers(0, len(WORDS), (here, CAPTION_WORDS))
        ids = [name_of(number) for number in range(start, start + here)]
        metadata = [
            {"path": f"/photos/{name}", "caption": " ".join([WORDS[word] for word in chosen])}
            for name, chosen in zip(ids, words.tolist(), strict=True)
        ]
        yield Block(ids, draw_images(here, start, dim), metadata)


def name_of(number: int) -> str:
    """Return the id of an item."""
    return f"{number // 1000:05}/{number:08}.jpg"


def make_texts(count: int, dim: int) -> Rows:
    """Return text queries of the world."""
    return make_queries(count, dim)[1]
