"""The batch of a step: images in this rank's order, their views, labels, and what a method adds.

Without groups of views no picture is read: a locked tower has seen them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from twinlens.training.data.order import SampleOrder
from twinlens.training.data.pixels import PixelStore
from twinlens.training.data.records import DataSource
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.objective import Batch
from twinlens.training.seeds import generator, row_seeds
from twinlens.training.views.draws import Draws, RowDraws
from twinlens.training.views.maker import ViewMaker
from twinlens.training.views.pictures import Pictures, lay_out

SAMPLES = 64  # images in a batch of the visual tokenizer


@dataclass(frozen=True)
class Draft:
    """A batch that is being made: which images, the step's draws, and the views once drawn."""

    step: int
    records: Sequence[int]
    draws: torch.Generator
    views: Mapping[str, Tensor] = field(default_factory=dict)
    view: int = 0  # which of the kept views of a picture the batch shows


class BatchExtra(Protocol):
    """Makes what a method needs in a batch beside views and labels."""

    @property
    def needs_views(self) -> bool:
        """Whether it is made after the views, or before them."""
        ...

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Return tensors by name, a row for each image; the feeder moves them to the device."""
        ...


@dataclass(frozen=True)
class KeptViews:
    """Views that are made again: `count` of each picture, from seeds of their own."""

    count: int
    seed: int


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
    extras: Sequence[BatchExtra] = ()
    kept: KeptViews | None = None
    _ahead: dict[int, Future[tuple[Pictures, list[int]]]] = field(default_factory=dict, init=False)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1), init=False)

    def __post_init__(self) -> None:
        self._labels = number_labels(self.store.source, self.classes)

    def batch(self, step: int) -> Batch:
        """Return this rank's part of the batch of `step`, on the device."""
        pictures, records = self._fetched(step) if self.maker.groups else (None, self._named(step))
        draws = generator(self.seed, step, self.ranks.rank, 5)
        view, of_views = self._view_draws(step, records, draws)
        extra = {"labels": self._labels[records].to(self.device)}
        # The order of draws is part of a run's numbers: captions, then views, then masks.
        extra |= self._extras(Draft(step, records, draws, view=view), needs_views=False)
        views = {} if pictures is None else self.maker(pictures.to(self.device), of_views)
        extra |= self._extras(Draft(step, records, draws, views, view), needs_views=True)
        return Batch(views, extra)

    def close(self) -> None:
        """End the threads that read ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()

    def _view_draws(
        self, step: int, records: Sequence[int], draws: torch.Generator
    ) -> tuple[int, Draws]:
        """Return which of its kept views each picture shows, and what that is drawn from."""
        if self.kept is None:
            return 0, draws
        view = step // self.order.per_epoch % self.kept.count
        return view, RowDraws(row_seeds(self.kept.seed, view, records))

    def _extras(self, draft: Draft, *, needs_views: bool) -> dict[str, Tensor]:
        return {
            name: rows.to(self.device)
            for extra in self.extras
            if extra.needs_views == needs_views
            for name, rows in extra.make(draft).items()
        }

    def _named(self, step: int) -> list[int]:
        """Return the records of `step`, of which no view is made and nothing is read."""
        places = self.order.positions(step, self.ranks.rank, self.ranks.world)
        return [self.store.indices[place] for place in places]

    def _fetched(self, step: int) -> tuple[Pictures, list[int]]:
        """Return the images of `step`, and begin to read those of the next."""
        now = self._ahead.pop(step, None) or self._begin(step)
        self._ahead = {step + 1: self._begin(step + 1)}
        return now.result()

    def _begin(self, step: int) -> Future[tuple[Pictures, list[int]]]:
        positions = self.order.positions(step, self.ranks.rank, self.ranks.world)
        return self._pool.submit(self._read, positions)

    def _read(self, positions: Sequence[int]) -> tuple[Pictures, list[int]]:
        images, records = self.store.fetch(positions)
        return lay_out(images), records


def number_labels(source: DataSource, classes: Sequence[str]) -> Tensor:
    """Return the number of each record's class, -1 where it has none."""
    numbers = {name: number for number, name in enumerate(classes)}
    return torch.tensor([numbers.get(record.label or "", -1) for record in source.records])


def sample_views(
    store: PixelStore, maker: ViewMaker, device: torch.device, seed: int, steps: int
) -> Iterator[Tensor]:
    """Yield single views of images drawn at random: what a visual tokenizer learns from."""
    size = min(SAMPLES, len(store))
    for step in range(steps):
        draws = generator(seed, step, 43)
        positions = torch.randint(len(store), (size,), generator=draws).tolist()
        images, _ = store.fetch(positions)
        yield maker(lay_out(images).to(device), draws)["global"][:, 0]
