"""The batch of a step: images in this rank's order, their views, labels, and what a method adds.

A thread prepares several batches ahead: it reads, lays out and draws; views are made when the batch
is asked for. On an accelerator nothing of that waits for the device. What must stay true: a batch
is a function of its step, however far ahead it was prepared.

Without groups of views no picture is read: a locked tower has seen them all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from twinlens.training.data.order import SampleOrder
from twinlens.training.data.pixels import PixelStore
from twinlens.training.data.records import DataSource
from twinlens.training.devices import pin, send
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.objective import Batch
from twinlens.training.seeds import generator, row_seeds
from twinlens.training.views.draws import Draws, RowDraws
from twinlens.training.views.maker import Maker, ViewMaker
from twinlens.training.views.pictures import Pictures, lay_out

SAMPLES = 64  # images in a batch of the visual tokenizer
AHEAD = 4  # batches that are prepared at most, within AHEAD_BYTES of pictures
AHEAD_BYTES = 2**30
QUEUED = 3  # steps that a GPU may be behind


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


@dataclass(frozen=True)
class Prepared:
    """What is ready of a batch before its views are made; on the CPU."""

    draft: Draft
    pictures: Pictures | None  # None where no view is made
    drawn: Mapping[str, Any]  # of the views
    extra: Mapping[str, Tensor]


@dataclass
class Feeder:
    """Makes batches; a pure function of the step, but for preparing ahead."""

    store: PixelStore
    order: SampleOrder
    maker: Maker
    ranks: Ranks
    device: torch.device
    seed: int
    classes: Sequence[str] = ()
    extras: Sequence[BatchExtra] = ()
    kept: KeptViews | None = None
    waited: float = field(default=0.0, init=False)  # seconds that steps waited for their batch
    _ahead: dict[int, Future[Prepared]] = field(default_factory=dict, init=False)
    _depth: int = field(default=1, init=False)  # batches ahead; known once one is there
    _sent: deque[torch.cuda.Event] = field(default_factory=deque, init=False)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1), init=False)

    def __post_init__(self) -> None:
        self._labels = number_labels(self.store.source, self.classes)

    def batch(self, step: int) -> Batch:
        """Return this rank's part of the batch of `step`, on the device."""
        began = time.perf_counter()
        prepared = self._take(step)
        self.waited += time.perf_counter() - began
        self._bound_queue()
        draft = prepared.draft
        extra = {name: send(rows, self.device) for name, rows in prepared.extra.items()}
        if prepared.pictures is not None:
            pictures = prepared.pictures.to(self.device)
            draft = replace(draft, views=self.maker.make(pictures, prepared.drawn))
        # The order of draws is part of a run's numbers: captions, then views, then masks.
        late = self._extras(draft, needs_views=True)
        extra |= {name: send(pin(rows, self.device), self.device) for name, rows in late.items()}
        return Batch(draft.views, extra)

    def take_waited(self) -> float:
        """Return the seconds that steps have waited for their batches since the last time."""
        found, self.waited = self.waited, 0.0
        return found

    def close(self) -> None:
        """End the threads that read ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()

    def _bound_queue(self) -> None:
        """Let the CPU be at most `QUEUED` steps ahead of a GPU, whose inputs stay in memory."""
        if self.device.type != "cuda":
            return
        if len(self._sent) >= QUEUED:
            self._sent.popleft().synchronize()
        event = torch.cuda.Event()
        event.record()
        self._sent.append(event)

    def _take(self, step: int) -> Prepared:
        """Return what is ready of `step`, and let those after it be prepared."""
        future = self._ahead.pop(step, None) or self._pool.submit(self._prepare, step)
        kept = {number: self._ahead[number] for number in self._ahead if number > step}
        for number in range(step + 1, step + 1 + self._depth):
            if number not in kept:
                kept[number] = self._pool.submit(self._prepare, number)
        self._ahead = kept
        prepared = future.result()
        size = 0 if prepared.pictures is None else prepared.pictures.canvas.nbytes
        self._depth = max(1, min(AHEAD, AHEAD_BYTES // max(1, size)))
        return prepared

    def _prepare(self, step: int) -> Prepared:
        """Read, lay out and draw."""
        rank, world = self.ranks.rank, self.ranks.world
        for start, stop in self.order.coming(step, rank, world):
            self.store.expect(start, stop)
        positions = self.order.positions(step, rank, world)
        pictures, records = None, [self.store.indices[place] for place in positions]
        if self.maker.groups:
            images, records = self.store.fetch(positions)
            pictures = lay_out(images, self.device)
        draws = generator(self.seed, step, rank, 5)
        view, of_views = self._view_draws(step, records, draws)
        draft = Draft(step, records, draws, view=view)
        extra = {"labels": self._labels[records]} | self._extras(draft, needs_views=False)
        drawn = {} if pictures is None else self.maker.draw(pictures.sizes, of_views)
        extra = {name: pin(rows, self.device) for name, rows in extra.items()}
        return Prepared(draft, pictures, drawn, extra)

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
            name: rows
            for extra in self.extras
            if extra.needs_views == needs_views
            for name, rows in extra.make(draft).items()
        }


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
