"""The batch of a step: images in this rank's order, their views, labels and the method's extras.

A thread prepares several batches ahead: it reads pictures and draws random numbers. Views are made
when the batch is requested. On an accelerator no part of this waits for the device. Without groups
of views no picture is read: a locked tower's embeddings are already known.

What must stay true: a batch is a function of its step, however far ahead it was prepared.
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
    """A batch in the making: its images, the step's random draws, and later its views."""

    step: int
    records: Sequence[int]
    draws: torch.Generator
    views: Mapping[str, Tensor] = field(default_factory=dict)
    view: int = 0  # which of its kept views each picture shows


class BatchExtra(Protocol):
    """Makes what a method needs in a batch besides views and labels."""

    @property
    def needs_views(self) -> bool:
        """Whether `make` runs after the views are made, or before."""
        ...

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Return tensors by name, a row for each image; the feeder moves them to the device."""
        ...


@dataclass(frozen=True)
class KeptViews:
    """Views that can be made again: `count` per picture, each from its own seed."""

    count: int
    seed: int


@dataclass(frozen=True)
class Prepared:
    """The part of a batch that is ready before its views are made; on the CPU."""

    draft: Draft
    pictures: Pictures | None  # None where no view is made
    drawn: Mapping[str, Any]  # of the views
    extra: Mapping[str, Tensor]


@dataclass
class Feeder:
    """Makes batches: a function of the step, prepared ahead of time."""

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
    _depth: int = field(default=1, init=False)  # batches ahead; set after the first batch
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
        # The order of random draws decides a run's results: captions, then views, then masks.
        late = self._extras(draft, needs_views=True)
        extra |= {name: send(pin(rows, self.device), self.device) for name, rows in late.items()}
        return Batch(draft.views, extra)

    def take_waited(self) -> float:
        """Return the seconds that steps waited for their batches since the last call."""
        found, self.waited = self.waited, 0.0
        return found

    def close(self) -> None:
        """End the threads that read ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()

    def _bound_queue(self) -> None:
        """Keep the CPU at most `QUEUED` steps ahead of a GPU: queued inputs stay in memory."""
        if self.device.type != "cuda":
            return
        if len(self._sent) >= QUEUED:
            self._sent.popleft().synchronize()
        event = torch.cuda.Event()
        event.record()
        self._sent.append(event)

    def _take(self, step: int) -> Prepared:
        """Return the prepared part of `step`, and start preparing the steps after it."""
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
        """Read the pictures, lay them out and draw the random numbers."""
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
        """Return which kept view each picture shows, and the seeds of these views."""
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
