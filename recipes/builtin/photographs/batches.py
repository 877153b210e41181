"""Batches for the text tower, drawn ahead by any number of processes.

What must stay true: a batch depends only on the seed and its step (except for the merges that the
tokenizer leaves out), so an interrupted run resumes with the batches that it would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recipes.builtin.photographs.phrasing import Phraser
from recipes.builtin.towers import PAD_ID

_LOOSELY = 3  # every third step leaves merges out
_AHEAD = 8  # batches per process


class Batch(NamedTuple):
    """Texts as padded tokens, the shortest first, and their meanings (see `Said`)."""

    tokens: Tensor
    first: Tensor
    second: Tensor
    share: Tensor
    weights: Tensor
    longest: Tensor  # tokens of the longest text of each part; stays on the host

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; with pinned memory the copy overlaps the computation."""
        moved = [tensor.to(device, non_blocking=True) for tensor in self[:-1]]
        return Batch._make([*moved, self.longest])

    def parts(self) -> list[Tensor]:
        """Return the tokens in parts of similar length, each as wide as its longest text."""
        lengths: list[int] = self.longest.tolist()
        parts = self.tokens.chunk(len(lengths))
        return [part[:, :length] for part, length in zip(parts, lengths, strict=True)]

    def aim(self, rows: Tensor) -> Tensor:
        """Return the target rows (n, d) of the texts."""
        share = self.share[:, None]
        mixed = share * rows[self.first] + (1 - share) * rows[self.second]
        return torch.nn.functional.normalize(mixed, dim=1)


@dataclass(frozen=True)
class Drawer(Dataset[Batch]):
    """Draws the batch of a step."""

    phraser: Phraser
    tokenizer: Any
    size: int
    dropout: float
    seed: int
    parts: int = 1

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step, sorted by length."""
        said = self.phraser.draw(self.size, random.Random(f"{self.seed} {step}"))
        ids = self.read(said.texts, loosely=step % _LOOSELY == 0)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        width = len(ids[order[-1]])
        tokens = torch.tensor([[*ids[i], *[PAD_ID] * (width - len(ids[i]))] for i in order])
        longest = [int((part[-1] != PAD_ID).sum()) for part in tokens.chunk(self.parts)]
        arrays = (said.first, said.second, said.share, said.weights)
        said_of = [torch.from_numpy(array[order]) for array in arrays]
        return Batch._make([tokens, *said_of, torch.tensor(longest)])

    def read(self, texts: list[str], *, loosely: bool = False) -> list[list[int]]:
        """Return the tokens of texts, with merges left out if `loosely`."""
        self.tokenizer.model.dropout = self.dropout if loosely else None
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]


def draw_batches(drawer: Drawer, steps: range, processes: int, *, pinned: bool) -> Iterator[Batch]:
    """Yield the batches of steps in order; without processes each is drawn on request."""
    ahead = _AHEAD if processes else None
    yield from DataLoader(
        drawer,
        batch_size=None,
        sampler=steps,
        num_workers=processes,
        prefetch_factor=ahead,
        pin_memory=pinned,
    )
