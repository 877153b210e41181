"""The batch of a step: images in this rank's order, views of them, labels and tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlens.training.data.negatives import Negatives
from twinlens.training.data.order import SampleOrder
from twinlens.training.data.pixels import PixelBatch, PixelStore
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.objective import Batch
from twinlens.training.seeds import generator
from twinlens.training.views.maker import ViewMaker

SAMPLES = 64  # images in a batch of the visual tokenizer


class Tokenize(Protocol):
    """Texts to padded tokens (n, length)."""

    def __call__(self, texts: list[str]) -> NDArray[np.int64]:
        """Return the tokens."""
        ...


@dataclass
class Feeder:
    """Makes batches; a pure function of the step, but for reading ahead."""

    store: PixelStore
    order: SampleOrder
    maker: ViewMaker
    ranks: Ranks
    device: torch.device
    seed: int
    classes: Sequence[str] = ()
    tokenize: Tokenize | None = None
    mask: Callable[[int, torch.Generator], Tensor] | None = None
    code: Callable[[Tensor], Tensor] | None = None
    negatives: Negatives | None = None
    _ahead: dict[int, Future[tuple[PixelBatch, list[int]]]] = field(
        default_factory=dict, init=False
    )
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1), init=False)

    def __post_init__(self) -> None:
        numbers = {name: number for number, name in enumerate(self.classes)}
        found = [numbers.get(record.label or "", -1) for record in self.store.source.records]
        self._labels = torch.tensor(found)

    def batch(self, step: int) -> Batch:
        """Return this rank's part of the batch of `step`, on the device."""
        pixels, records = self._fetched(step)
        draws = generator(self.seed, step, self.ranks.rank, 5)
        images = torch.from_numpy(pixels).to(self.device, non_blocking=True)
        extra: dict[str, Tensor] = {"labels": self._labels[records].to(self.device)}
        if self.tokenize is not None:
            texts = self._captions(records, draws)
            extra["tokens"] = torch.from_numpy(self.tokenize(texts)).to(self.device)
            if self.negatives is not None:
                extra["negatives"] = self._negatives(self.negatives, records, texts, step)
        views = self.maker(images, draws)
        if self.mask is not None:
            extra["mask"] = self.mask(len(images), draws).to(self.device)
        if self.code is not None:
            extra["codes"] = self.code(views["global"][:, 0])
        return Batch(views, extra)

    def samples(self, steps: int) -> Iterator[Tensor]:
        """Yield single views of images drawn at random: what a visual tokenizer learns from."""
        size = min(SAMPLES, len(self.store))
        for step in range(steps):
            draws = generator(self.seed, step, 43)
            positions = torch.randint(len(self.store), (size,), generator=draws).tolist()
            pixels, _ = self.store.fetch(positions)
            yield self.maker(torch.from_numpy(pixels).to(self.device), draws)["global"][:, 0]

    def close(self) -> None:
        """End the threads that read ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()

    def _fetched(self, step: int) -> tuple[PixelBatch, list[int]]:
        """Return the images of `step`, and begin to read those of the next."""
        now = self._ahead.pop(step, None) or self._begin(step)
        self._ahead = {step + 1: self._begin(step + 1)}
        return now.result()

    def _begin(self, step: int) -> Future[tuple[PixelBatch, list[int]]]:
        positions = self.order.positions(step, self.ranks.rank, self.ranks.world)
        return self._pool.submit(self.store.fetch, positions)

    def _negatives(
        self, negatives: Negatives, records: Sequence[int], texts: Sequence[str], step: int
    ) -> Tensor:
        """Return tokens (n, count, length) of captions that are nearly true of the images."""
        assert self.tokenize is not None
        # Draws of their own, so that everything else of a step is as it is without negatives.
        draws = generator(self.seed, step, self.ranks.rank, 47)
        wrong = [
            text
            for record, own in zip(records, texts, strict=True)
            for text in negatives.of(self.store.source.records[record], own, draws)
        ]
        tokens = torch.from_numpy(self.tokenize(wrong)).to(self.device)
        return tokens.view(len(records), negatives.count, -1)

    def _captions(self, records: Sequence[int], draws: torch.Generator) -> list[str]:
        """Return one caption of each image, drawn anew each time."""
        picks = torch.rand(len(records), generator=draws).tolist()
        found = []
        for record, pick in zip(records, picks, strict=True):
            captions = self.store.source.records[record].captions
            found.append(captions[int(pick * len(captions))])
        return found
