"""What the doctor measures every `log_every` steps: cheap numbers that tell causes apart.

A collapsed run and a healthy one may have the same loss. So the loss is evaluated once more on
detached rows: where its gradient flows (into a target, or along a row's own length) identifies the
fault.

What must stay true: no measurement draws random numbers, touches the graph of the step or waits for
a device; results stay on the device until they are logged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlens.bundle.arrays import Pixels
from twinlens.training.data.pixels import PixelStore
from twinlens.training.distributed.sharding import whole
from twinlens.training.evaluation.readings import Reading, SpectrumReading, StepNumbers
from twinlens.training.evaluation.spectrum import Spectrum, sum_spectrum
from twinlens.training.nn.network import Network
from twinlens.training.objective import BatchRows, LossInputs, Objective, Queue
from twinlens.training.runs.state import State

Values = dict[str, float | Tensor]  # values are tensors without dimensions
SAMPLE = 64  # images compared for variety, and keys looked up in a queue
SPECTRUM_ROWS = 512


class LossProbe:
    """Called with the inputs of each loss; while `due`, measures where the gradient flows."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.queues = [item for item in objective.state() if isinstance(item, Queue)]
        self.due = False
        self.found = Reading()

    def __call__(self, inputs: LossInputs) -> None:
        """Measure one evaluation of the loss."""
        if self.due:
            slopes = row_gradients(self.objective, inputs)
            values = self._measure_gradients(inputs, slopes) | self._measure_queues(inputs)
            self.found = Reading(values) | self._measure_head(inputs)

    def take(self) -> Reading:
        """Return what was measured since the last call."""
        found, self.found = self.found, Reading()
        return found

    def _measure_gradients(self, inputs: LossInputs, slopes: BatchRows) -> Values:
        spec = self.objective.health
        found: Values = {}
        if spec.stopped:
            stopped = [slopes[name] for name in spec.stopped if name in slopes]
            found["target_gradient"] = share_of(stopped, slopes.values())
        radial = [
            radial_share(inputs.student[name], slopes[name]) for name in spec.unit if name in slopes
        ]
        if radial:
            found["radial_gradient"] = torch.stack(radial).amax()
        return found

    def _measure_head(self, inputs: LossInputs) -> Reading:
        """Return the spectrum of the rows that the method compares: first view of each image."""
        name = self.objective.health.head
        if name not in inputs.student:
            return Reading()
        rows = first_rows(inputs.student[name].detach())[:SPECTRUM_ROWS]
        found: Values = {}
        pairs = find_pairs(inputs, name)
        if pairs is not None:
            found["positive_cosine"] = torch.cosine_similarity(*pairs, dim=-1).mean()
        return Reading(found, (SpectrumReading(sum_spectrum(rows), _name_head),))

    def _measure_queues(self, inputs: LossInputs) -> Values:
        shares = []
        for queue in self.queues:
            rows = inputs.teacher.get(queue.source, inputs.student.get(queue.source))
            if rows is not None:
                rows = rows if queue.view is None else rows[:, queue.view]
                shares.append(share_found(rows.detach().flatten(0, -2), inputs.state[queue.name]))
        return {"queue_hits": torch.stack(shares).amax()} if shares else {}


def _name_head(spectrum: Spectrum) -> StepNumbers:
    return {"head_rank": spectrum.effective_rank, "head_spread": spectrum.spread}


def row_gradients(objective: Objective, inputs: LossInputs) -> BatchRows:
    """Return the loss's gradient by the student's rows; rows that it ignores are left out."""
    leaves = {name: rows.detach().requires_grad_() for name, rows in inputs.student.items()}
    shared = {name: value.detach() for name, value in inputs.shared.items()}
    with torch.enable_grad():
        again = dataclasses.replace(inputs, student=leaves, shared=shared)
        loss = objective.loss(again)["loss"]
    if not loss.requires_grad:
        return {}
    slopes = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {name: slope for name, slope in zip(leaves, slopes, strict=True) if slope is not None}


def radial_share(rows: Tensor, slopes: Tensor) -> Tensor:
    """Return how much of the gradient points along the rows: 0 if their length does not matter."""
    along = (rows.detach() * slopes).sum(dim=-1).abs().sum()
    total = (rows.detach().norm(dim=-1) * slopes.norm(dim=-1)).sum()
    return _ratio(along, total)


def find_pairs(inputs: LossInputs, name: str) -> tuple[Tensor, Tensor] | None:
    """Return the rows (n, d) that the method treats as a pair, if any; without gradient.

    These are two views in the rows `name`, or `name` and other rows of its shape: captions, or the
    teacher's.
    """
    rows = inputs.student[name].detach()
    if rows.ndim == 3 and rows.shape[1] > 1:
        return rows[:, 0], rows[:, 1]
    others = {key: value for key, value in inputs.student.items() if key != name} | inputs.teacher
    for other in others.values():
        if other.shape == rows.shape:
            return rows, other.detach()
    return None


def share_of(part: Iterable[Tensor], all_of: Iterable[Tensor]) -> Tensor:
    """Return the norm of some gradients over the norm of all."""
    return _ratio(total_norm(part), total_norm(all_of))


def _ratio(part: Tensor, total: Tensor) -> Tensor:
    """Return part / total; 0 if the total is 0."""
    return torch.where(total > 0, part / total.clamp(min=1e-30), 0.0)


def share_found(keys: Tensor, queue: Tensor) -> Tensor:
    """Return the share of the first keys that are in the queue, compared bit by bit."""
    keys = keys[:SAMPLE].to(queue.dtype)
    nearest = (keys @ queue.mT).argmax(dim=1)
    return (queue[nearest] == keys).all(dim=1).float().mean()


def measure_parameters(net: Network, state: State) -> Values:
    """Return gradient norms by part, and the distance of the teacher from its student."""
    found: Values = {}
    for name, part in net.parts.items():
        grads = [p.grad for p in part.parameters() if p.grad is not None]
        found[f"grad/{name}"] = total_norm(grads)
    return found | _measure_teacher(net, state)


def copy_parameters(net: Network) -> dict[str, list[Tensor]]:
    """Return copies of all parameters by part, to measure a step against."""
    return {
        name: [p.detach().clone() for p in part.parameters()] for name, part in net.parts.items()
    }


def measure_updates(net: Network, before: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """Return by part the norm of the step over the norm of the parameters."""
    found = {}
    for name, part in net.parts.items():
        moved = [p.detach() - old for p, old in zip(part.parameters(), before[name], strict=True)]
        found[f"update/{name}"] = _ratio(total_norm(moved), total_norm(before[name]))
    return found


def measure_representation(representation: Tensor) -> Reading:
    """Return rank and spread of representations (n, views, d)."""
    sums = sum_spectrum(first_rows(representation)[:SPECTRUM_ROWS])
    return Reading({}, (SpectrumReading(sums, _name_representation),))


def _name_representation(spectrum: Spectrum) -> StepNumbers:
    singular = spectrum.singular / spectrum.singular[0].clamp(min=1e-30)
    places = [2**power for power in range(1, 10) if 2**power <= len(singular)]
    return {
        **{f"singular/{place}": float(singular[place - 1]) for place in places},
        "top_eigenvalue": spectrum.top_share(1),
        "top5_eigenvalues": spectrum.top_share(5),
        "rank": spectrum.effective_rank,
        "rank_me": spectrum.rank_me,
        "spread": spectrum.spread,
    }


def measure_variety(store: PixelStore) -> float:
    """Return how much stored images differ: mean deviation over images, 0 to 1, at 4 x 4 pixels."""
    count = min(SAMPLE, len(store))
    places = np.linspace(0, len(store) - 1, count).astype(int).tolist()
    images, _ = store.fetch(places)
    coarse = np.stack([_blur_coarsely(image) for image in images])
    return float(coarse.std(axis=0).mean() / 255)


def _blur_coarsely(image: Pixels) -> NDArray[np.float64]:
    """Return the mean colours of an image in 4 x 4 cells, (4, 4, 3)."""
    rows, columns = (np.linspace(0, side, 5).astype(int) for side in image.shape[:2])
    return np.array(
        [
            [image[top:bottom, left:right].mean(axis=(0, 1)) for left, right in pairwise(columns)]
            for top, bottom in pairwise(rows)
        ]
    )


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the norm of all tensors together; sharded ones are gathered first."""
    wide = [tensor.detach().float() for tensor in tensors]
    if not wide:
        return torch.zeros(())
    norms = [whole(norm) for norm in torch._foreach_norm(wide)]
    total: Tensor = torch.stack(norms).norm()
    return total


def first_rows(rows: Tensor) -> Tensor:
    """Return one row for each image, (n, d)."""
    return rows.flatten(1, -2)[:, 0] if rows.ndim > 2 else rows


def _measure_teacher(net: Network, state: State) -> Values:
    if state.ema_teacher is None:
        return {}
    slow, fast = [], []
    for name in state.ema_teacher.parts:
        slow += list(state.ema_teacher[name].parameters())
        fast += list(net[name].parameters())
    shared = sum(a.data_ptr() == b.data_ptr() for a, b in zip(slow, fast, strict=True))
    gaps = [a.detach() - b.detach() for a, b in zip(slow, fast, strict=True)]
    return {"twin_gap": share_of(gaps, fast), "twin_shared": shared / max(1, len(slow))}
