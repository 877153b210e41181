"""One gradient, three ways: at once, by micro-batches, or cached (GradCache).

Cached gradients (Gao et al. 2021, https://arxiv.org/abs/2101.06983) forward the batch in chunks
without a graph, take the loss's gradient by the rows, then forward each chunk again and send its
part of that gradient down. Memory is that of a chunk. The gradient is that of the whole batch for
encoders whose rows do not see each other; BatchNorm's statistics become those of a chunk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from twinlens.errors import InputError
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.distributed.sharding import set_synchronised
from twinlens.training.nn.network import Network
from twinlens.training.objective import REPRESENTATION, TEXTS, Batch, Given, Objective, Rows
from twinlens.training.runs.state import State
from twinlens.training.schedules import Progress
from twinlens.training.seeds import mix


@dataclass(frozen=True)
class Outcome:
    """What a backward pass leaves beside the gradients; all without graph, rows of this rank."""

    terms: Rows
    representation: Tensor
    taught: tuple[Rows, ...]  # by micro-batch: what rings and centres are renewed from


@dataclass(frozen=True)
class Differentiator:
    """Puts the gradient of an objective into the network's parameters."""

    objective: Objective
    net: Network
    passes: nn.Module  # the network as it must be called: bare, compiled, sharded or wrapped by DDP
    state: State
    ranks: Ranks
    autocast: torch.dtype | None = None
    chunk: int = 0
    witness: Callable[[Given], None] | None = None  # looks at what the loss is given

    def backward(self, batch: Batch, progress: Progress, *, accumulate: int = 1) -> Outcome:
        """Add the gradient of the mean loss over `batch` to the parameters."""
        if self.chunk:
            return self._cached(batch, progress)
        if accumulate > 1 and self.objective.coupled:
            raise InputError(
                f"accumulate is {accumulate}, but {self.objective.name} compares the images of a"
                " batch with each other: micro-batches would see fewer negatives, another loss."
                " Set chunk for the exact gradient of the whole batch on a chunk's memory",
                field="accumulate",
            )
        size = len(batch) // accumulate
        outcomes = []
        for number in range(accumulate):
            part = batch.part(number * size, (number + 1) * size)
            last = number == accumulate - 1
            with _synchronised(self.passes, last):
                outcomes.append(self._direct(part, progress, 1 / accumulate))
        return _merged(outcomes)

    def _direct(self, batch: Batch, progress: Progress, weight: float) -> Outcome:
        taught = self._teach(batch)
        rows, shared = self._student(batch)
        terms = self._loss(rows, taught, shared, batch, progress)
        torch.autograd.backward(terms["loss"] * weight)
        return Outcome(_plain(terms), rows[REPRESENTATION].detach(), (self._kept(taught, rows),))

    def _cached(self, batch: Batch, progress: Progress) -> Outcome:
        parts = [
            batch.part(start, min(start + self.chunk, len(batch)))
            for start in range(0, len(batch), self.chunk)
        ]
        taught = _stacked([self._teach(part) for part in parts])
        rows, shared = self._rows_without_graph(parts, progress)
        leaves = {name: tensor.requires_grad_() for name, tensor in rows.items()}
        ends = {name: tensor.detach().requires_grad_() for name, tensor in shared.items()}
        terms = self._loss(leaves, taught, ends, batch, progress)
        torch.autograd.backward(terms["loss"])
        start = 0
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with _synchronised(self.passes, last):
                again, shared = self._seeded_student(part, progress, number)
                pairs = [
                    (again[name], leaf.grad[start : start + len(part)])
                    for name, leaf in leaves.items()
                    if leaf.grad is not None and again[name].requires_grad
                ]
                pairs += [
                    (shared[name], end.grad * last)
                    for name, end in ends.items()
                    if end.grad is not None
                ]
                ends_of, slopes = zip(*pairs, strict=True)
                torch.autograd.backward(ends_of, slopes)
            start += len(part)
        kept = self._kept(taught, rows)
        return Outcome(_plain(terms), rows[REPRESENTATION].detach(), (kept,))

    def _kept(self, taught: Rows, rows: Rows) -> Rows:
        """Return the teacher's rows, and those of the student's that the state asks for."""
        own = self.state.sources - taught.keys()
        return taught | {name: rows[name].detach() for name in own}

    def _rows_without_graph(self, parts: Sequence[Batch], progress: Progress) -> tuple[Rows, Rows]:
        """Return all rows, forwarded chunk by chunk; running statistics stay as they were."""
        buffers = {name: buffer.clone() for name, buffer in self.net.named_buffers()}
        with torch.no_grad():
            found = [
                self._seeded_student(part, progress, number, bare=True)
                for number, part in enumerate(parts)
            ]
            for name, buffer in self.net.named_buffers():
                buffer.copy_(buffers[name])
        return _stacked([rows for rows, _ in found]), found[0][1]

    def _seeded_student(
        self, part: Batch, progress: Progress, number: int, *, bare: bool = False
    ) -> tuple[Rows, Rows]:
        """Forward a chunk such that dropout falls alike both times."""
        with torch.random.fork_rng(enabled=True):
            torch.manual_seed(mix(torch.initial_seed(), progress.step, number))
            return self._student(part, bare=bare)

    def _student(self, batch: Batch, *, bare: bool = False) -> tuple[Rows, Rows]:
        module: Any = self.net if bare else self.passes
        with self._precision(batch):
            rows, shared = module(batch)
        return _wide(rows), _wide(shared)

    def _teach(self, batch: Batch) -> Rows:
        if self.state.twin is None:
            return {}
        with torch.no_grad(), self._precision(batch):
            return _wide(self.objective.teacher(self.state.twin, batch))

    def _loss(
        self, rows: Rows, taught: Rows, shared: Rows, batch: Batch, progress: Progress
    ) -> Rows:
        extra = {name: value for name, value in batch.extra.items() if name not in TEXTS}
        rows = {name: value for name, value in rows.items() if name != REPRESENTATION}
        if self.objective.coupled:
            rows, taught, extra = (
                {name: self.ranks.gather(value) for name, value in group.items()}
                for group in (rows, taught, extra)
            )
        given = Given(rows, taught, shared, self.state.tensors(), extra, progress)
        if self.witness is not None:
            self.witness(given)
        return self.objective.loss(given)

    def _precision(self, batch: Batch) -> contextlib.AbstractContextManager[Any]:
        device = next(iter(batch.views.values())).device.type
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(device, self.autocast)


@contextlib.contextmanager
def _synchronised(module: nn.Module, last: bool) -> Iterator[None]:
    """Let DDP or FSDP average gradients in the last pass only."""
    set_synchronised(module, last)
    if isinstance(module, DistributedDataParallel) and not last:
        with module.no_sync():
            yield
    else:
        yield


def _wide(rows: Rows) -> Rows:
    """Return the rows in at least fp32: losses are exact sums of exponentials, bf16 is not."""
    return {
        name: value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
        for name, value in rows.items()
    }


def _stacked(rows: Sequence[Rows]) -> Rows:
    return {name: torch.cat([part[name] for part in rows]) for name in rows[0]}


def _plain(terms: Rows) -> Rows:
    return {name: value.detach() for name, value in terms.items()}


def _merged(outcomes: Sequence[Outcome]) -> Outcome:
    if len(outcomes) == 1:
        return outcomes[0]
    terms = {
        name: torch.stack([outcome.terms[name] for outcome in outcomes]).mean(dim=0)
        for name in outcomes[0].terms
    }
    representation = torch.cat([outcome.representation for outcome in outcomes])
    taught = tuple(rows for outcome in outcomes for rows in outcome.taught)
    return Outcome(terms, representation, taught)
