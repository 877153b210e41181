"""One gradient in three ways: at once, by micro-batches, or cached (GradCache).

Cached gradients (Gao et al. 2021, https://arxiv.org/abs/2101.06983) forward the batch in chunks
without a graph, take the loss's gradient with respect to the rows, then forward each chunk again
and backpropagate its part of that gradient. Memory is that of one chunk. What must stay true: the
gradient is that of the whole batch for encoders whose rows do not interact; BatchNorm's statistics
become those of a chunk.
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
from twinlens.training.objective import (
    ENCODED,
    REPRESENTATION,
    Batch,
    BatchRows,
    LossInputs,
    Objective,
)
from twinlens.training.runs.state import State
from twinlens.training.schedules import TrainingProgress
from twinlens.training.seeds import mix


@dataclass(frozen=True)
class BackwardResult:
    """The results of a backward pass besides the gradients; detached, rows of this rank."""

    terms: BatchRows
    representation: Tensor
    state_rows: tuple[BatchRows, ...]  # by micro-batch: for the updates of queues and centres


@dataclass(frozen=True)
class Differentiator:
    """Writes the gradient of an objective to the network's parameters."""

    objective: Objective
    net: Network
    passes: nn.Module  # the network as it must be called: bare, compiled, sharded or in DDP
    state: State
    ranks: Ranks
    autocast: torch.dtype | None = None
    chunk: int = 0
    loss_probe: Callable[[LossInputs], None] | None = (
        None  # measures the loss's inputs, for the doctor
    )
    scale: Callable[[], float] = lambda: 1.0  # factor on the gradients, against underflow

    def backward(
        self, batch: Batch, progress: TrainingProgress, *, accumulate: int = 1
    ) -> BackwardResult:
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
        results = []
        for number in range(accumulate):
            part = batch.part(number * size, (number + 1) * size)
            last = number == accumulate - 1
            with _synchronised(self.passes, last):
                results.append(self._direct(part, progress, 1 / accumulate))
        return _merged(results)

    def _direct(self, batch: Batch, progress: TrainingProgress, weight: float) -> BackwardResult:
        teacher_rows = self._teacher_rows(batch)
        rows, shared = self._student(batch)
        terms = self._loss(rows, teacher_rows, shared, batch, progress)
        torch.autograd.backward(terms["loss"] * (weight * self.scale()))
        return BackwardResult(
            _plain(terms), rows[REPRESENTATION].detach(), (self._state_rows(teacher_rows, rows),)
        )

    def _cached(self, batch: Batch, progress: TrainingProgress) -> BackwardResult:
        parts = [
            batch.part(start, min(start + self.chunk, len(batch)))
            for start in range(0, len(batch), self.chunk)
        ]
        teacher_rows = _stacked([self._teacher_rows(part) for part in parts])
        rows, shared = self._rows_without_graph(parts, progress)
        leaves = {name: tensor.requires_grad_() for name, tensor in rows.items()}
        ends = {name: tensor.detach().requires_grad_() for name, tensor in shared.items()}
        terms = self._loss(leaves, teacher_rows, ends, batch, progress)
        torch.autograd.backward(terms["loss"] * self.scale())
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
        kept = self._state_rows(teacher_rows, rows)
        return BackwardResult(_plain(terms), rows[REPRESENTATION].detach(), (kept,))

    def _state_rows(self, teacher_rows: BatchRows, rows: BatchRows) -> BatchRows:
        """Return the teacher's rows, and the student's rows that the state needs."""
        own = self.state.sources - teacher_rows.keys()
        return teacher_rows | {name: rows[name].detach() for name in own}

    def _rows_without_graph(
        self, parts: Sequence[Batch], progress: TrainingProgress
    ) -> tuple[BatchRows, BatchRows]:
        """Return all rows, forwarded chunk by chunk; running statistics do not change."""
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
        self, part: Batch, progress: TrainingProgress, number: int, *, bare: bool = False
    ) -> tuple[BatchRows, BatchRows]:
        """Forward a chunk with the same dropout in both passes."""
        with torch.random.fork_rng(enabled=True):
            torch.manual_seed(mix(torch.initial_seed(), progress.step, number))
            return self._student(part, bare=bare)

    def _student(self, batch: Batch, *, bare: bool = False) -> tuple[BatchRows, BatchRows]:
        module: Any = self.net if bare else self.passes
        with self._precision(batch):
            rows, shared = module(batch)
        return _wide(rows), _wide(shared)

    def _teacher_rows(self, batch: Batch) -> BatchRows:
        if self.state.ema_teacher is None:
            return {}
        with torch.no_grad(), self._precision(batch):
            return _wide(self.objective.teacher(self.state.ema_teacher, batch))

    def _teacher_shared(self) -> BatchRows:
        if self.state.ema_teacher is None:
            return {}
        with torch.no_grad():
            return _wide(self.objective.teacher_shared(self.state.ema_teacher))

    def _loss(
        self,
        rows: BatchRows,
        teacher_rows: BatchRows,
        shared: BatchRows,
        batch: Batch,
        progress: TrainingProgress,
    ) -> BatchRows:
        extra = {name: value for name, value in batch.extra.items() if name not in ENCODED}
        rows = {name: value for name, value in rows.items() if name != REPRESENTATION}
        if self.objective.coupled:
            rows, teacher_rows, extra = (
                {name: self.ranks.gather(value) for name, value in group.items()}
                for group in (rows, teacher_rows, extra)
            )
        inputs = LossInputs(
            student=rows,
            teacher=teacher_rows,
            shared=shared,
            state=self.state.tensors(),
            extra=extra,
            progress=progress,
            teacher_shared=self._teacher_shared(),
        )
        if self.loss_probe is not None:
            self.loss_probe(inputs)
        return self.objective.loss(inputs)

    def _precision(self, batch: Batch) -> contextlib.AbstractContextManager[Any]:
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(batch.device.type, self.autocast)


@contextlib.contextmanager
def _synchronised(module: nn.Module, last: bool) -> Iterator[None]:
    """Have DDP or FSDP average gradients in the last pass only."""
    set_synchronised(module, last)
    if isinstance(module, DistributedDataParallel) and not last:
        with module.no_sync():
            yield
    else:
        yield


def _wide(rows: BatchRows) -> BatchRows:
    """Return the rows in at least fp32: sums of exponentials need more precision than bf16."""
    return {
        name: value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
        for name, value in rows.items()
    }


def _stacked(rows: Sequence[BatchRows]) -> BatchRows:
    return {name: torch.cat([part[name] for part in rows]) for name in rows[0]}


def _plain(terms: BatchRows) -> BatchRows:
    return {name: value.detach() for name, value in terms.items()}


def _merged(results: Sequence[BackwardResult]) -> BackwardResult:
    if len(results) == 1:
        return results[0]
    terms = {
        name: torch.stack([result.terms[name] for result in results]).mean(dim=0)
        for name in results[0].terms
    }
    representation = torch.cat([result.representation for result in results])
    state_rows = tuple(rows for result in results for rows in result.state_rows)
    return BackwardResult(terms, representation, state_rows)
