"""Numbers of a step that may still be on an accelerator: collected there, finished later.

A measurement hands over tensors without dimensions and sums of spectra; nothing is read back while
the step runs. `to_host` queues one copy of all of them; `finish` converts them once the copy has
arrived. What must stay true: a CPU and an accelerator give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from twinlens.training.devices import is_accelerator
from twinlens.training.evaluation.spectrum import Spectrum, SpectrumSums, finish_spectrum

StepNumbers = dict[str, float]


@dataclass(frozen=True)
class SpectrumReading:
    """The sums of a spectrum, and the names of its numbers."""

    sums: SpectrumSums
    name: Callable[[Spectrum], StepNumbers]

    def finish(self) -> StepNumbers:
        """Return the numbers; none if rows are not finite, which the loop reports."""
        if not all(bool(torch.isfinite(part).all()) for part in self.sums.tensors()):
            return {}
        return self.name(finish_spectrum(self.sums))


@dataclass(frozen=True)
class Reading:
    """Numbers of a step by name, in the order in which they were added."""

    values: Mapping[str, float | Tensor] = field(default_factory=dict)
    spectra: tuple[SpectrumReading, ...] = ()

    def __or__(self, other: Reading) -> Reading:
        return Reading({**self.values, **other.values}, self.spectra + other.spectra)

    def to_host(self) -> Reading:
        """Return the reading with its tensors on the CPU; the copies are queued."""
        values = dict(self.values)
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        queued = [name for name, value in tensors.items() if is_accelerator(value.device)]
        if queued:
            together = torch.stack([tensors[name].detach().double() for name in queued])
            values |= dict(zip(queued, _queue_copy(together).unbind(0), strict=True))
        spectra = [
            SpectrumReading(SpectrumSums(*map(_queue_copy, reading.sums.tensors())), reading.name)
            for reading in self.spectra
        ]
        return Reading(values, tuple(spectra))

    def finish(self) -> StepNumbers:
        """Return plain numbers."""
        found = {name: float(value) for name, value in self.values.items()}
        for reading in self.spectra:
            found |= reading.finish()
        return found


def _queue_copy(rows: Tensor) -> Tensor:
    if not rows.is_cuda:
        return rows
    host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    return host.copy_(rows, non_blocking=True)
