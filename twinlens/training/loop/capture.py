"""A step's forward and backward pass recorded once on a GPU as a CUDA graph, and replayed.

The first steps run as usual, so that compilers and libraries settle. Then the passes are recorded
on a static batch; each later batch is copied into it, and gradients are written to the recorded
places.

What must stay true: a replay equals the step that would have run without it. So a recording must
not bake in a changing Python number: a method whose loss reads the progress of the run is refused,
and a batch of another shape takes an ordinary step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from twinlens.errors import InputError
from twinlens.training.loop.gradients import BackwardResult, Differentiator
from twinlens.training.objective import Batch, LossInputs
from twinlens.training.schedules import TrainingProgress

WARMUP = 3  # steps before the recording


class Recorder(Protocol):
    """Records launches, to replay them."""

    def beside(self) -> contextlib.AbstractContextManager[None]:
        """Run the steps before the recording where they do not disturb it."""
        ...

    def record(self, passes: Callable[[], BackwardResult]) -> BackwardResult:
        """Record the passes; return where a replay puts its results."""
        ...

    def replay(self) -> None:
        """Replay the recorded launches."""
        ...


class GraphRecorder:
    """Records CUDA graphs."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream()

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Run on a side stream, as warm-up for a recording requires."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)

    def record(self, passes: Callable[[], BackwardResult]) -> BackwardResult:
        """Record the passes; other threads may pin memory meanwhile."""
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            return passes()

    def replay(self) -> None:
        """Launch the graph."""
        self._graph.replay()


class UnreadProgress(TrainingProgress):
    """A progress that raises when read, since a recording would keep its value."""

    def __getattribute__(self, name: str) -> object:
        if name in ("step", "total", "per_epoch", "share", "epoch"):
            raise InputError(
                "capture is true, and this method's loss changes over the run, which a recorded"
                " step cannot; --set capture=false",
                field="capture",
            )
        return super().__getattribute__(name)


@dataclass(frozen=True)
class _Recording:
    """A recording: where its results are, and what its loss read."""

    result: BackwardResult
    inputs: LossInputs
    gradients: list[tuple[nn.Parameter, Tensor]]


@dataclass
class CapturedDifferentiator:
    """Writes the gradient of an objective to the network's parameters by replaying a recording."""

    plain: Differentiator
    recorder: Recorder
    _own: Batch | None = field(default=None, init=False)  # that the recording reads
    _recording: _Recording | None = field(default=None, init=False)
    _steps: int = field(default=0, init=False)

    def backward(
        self, batch: Batch, progress: TrainingProgress, *, accumulate: int = 1
    ) -> BackwardResult:
        """Write the gradient of the mean loss over `batch` to the parameters."""
        self._own = own = self._own or _copy(batch)
        if not _alike(own, batch):
            with self.recorder.beside():
                return self.plain.backward(batch, progress, accumulate=accumulate)
        for kept, new in zip(_tensors(own), _tensors(batch), strict=True):
            kept.copy_(new)
        self._steps += 1
        if self._steps <= WARMUP:
            with self.recorder.beside():
                return self.plain.backward(own, _unread(), accumulate=accumulate)
        self._recording = self._recording or self._record(own, accumulate)
        return self._replay(self._recording, progress)

    def _replay(self, recording: _Recording, progress: TrainingProgress) -> BackwardResult:
        self.recorder.replay()
        for parameter, gradient in recording.gradients:
            parameter.grad = gradient
        if self.plain.loss_probe is not None:
            self.plain.loss_probe(replace(recording.inputs, progress=progress))
        return recording.result

    def _record(self, own: Batch, accumulate: int) -> _Recording:
        seen: list[LossInputs] = []
        quiet = replace(self.plain, loss_probe=seen.append)
        self.plain.net.zero_grad(set_to_none=True)
        result = self.recorder.record(lambda: quiet.backward(own, _unread(), accumulate=accumulate))
        parameters = self.plain.net.parameters()
        gradients = [(one, one.grad) for one in parameters if one.grad is not None]
        rows = {name: value.detach() for name, value in seen[-1].student.items()}
        return _Recording(result, replace(seen[-1], student=rows), gradients)


def _copy(batch: Batch) -> Batch:
    return Batch(
        {name: views.clone() for name, views in batch.views.items()},
        {name: rows.clone() for name, rows in batch.extra.items()},
    )


def _unread() -> TrainingProgress:
    return UnreadProgress(0, 1)


def _tensors(batch: Batch) -> list[Tensor]:
    return [*batch.views.values(), *batch.extra.values()]


def _alike(one: Batch, other: Batch) -> bool:
    names = [*one.views, *one.extra] == [*other.views, *other.extra]
    pairs = zip(_tensors(one), _tensors(other), strict=False)
    return names and all(a.shape == b.shape for a, b in pairs)
