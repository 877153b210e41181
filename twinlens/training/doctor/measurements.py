"""What is measured for the doctor, every `log_every` steps: cheap numbers that tell causes apart.

A collapsed run and a healthy one may have the same loss. So the loss is asked about its inputs: it
is evaluated once more on detached rows, and where its gradient goes (into a target? along a row's
own length?) names the fault. None of this draws random numbers or touches the graph of the step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from twinlens.training.data.pixels import PixelStore
from twinlens.training.evaluation.spectrum import measure_spectrum
from twinlens.training.nn.network import Network
from twinlens.training.objective import Given, Objective, Ring, Rows
from twinlens.training.runs.state import State

Vitals = dict[str, float]
SAMPLE = 64  # images looked at for variety, keys looked for in a queue
SPECTRUM_ROWS = 512


class Witness:
    """Stands beside the loss; while `due`, notes in `found` what the loss does with its rows."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.rings = [item for item in objective.state() if isinstance(item, Ring)]
        self.due = False
        self.found: Vitals = {}

    def __call__(self, given: Given) -> None:
        """Look at one evaluation of the loss."""
        if self.due:
            slopes = row_gradients(self.objective, given)
            self.found = {
                **self._where_gradients_go(given, slopes),
                **self._head(given),
                **self._queues(given),
            }

    def take(self) -> Vitals:
        """Return what was seen since the last time."""
        found, self.found = self.found, {}
        return found

    def _where_gradients_go(self, given: Given, slopes: Rows) -> Vitals:
        anatomy = self.objective.anatomy
        found: Vitals = {}
        if anatomy.stopped:
            stopped = [slopes[name] for name in anatomy.stopped if name in slopes]
            found["target_gradient"] = share_of(stopped, slopes.values())
        radial = [
            radial_share(given.student[name], slopes[name])
            for name in anatomy.unit
            if name in slopes
        ]
        if radial:
            found["radial_gradient"] = max(radial)
        return found

    def _head(self, given: Given) -> Vitals:
        """Return the spectrum of the rows that the method compares: first view of each image."""
        name = self.objective.anatomy.head
        if name not in given.student:
            return {}
        rows = first_rows(given.student[name].detach())[:SPECTRUM_ROWS]
        if not torch.isfinite(rows).all():
            return {}  # the loop stops such a step and says so
        spectrum = measure_spectrum(rows)
        return {"head_rank": spectrum.effective_rank, "head_spread": spectrum.spread}

    def _queues(self, given: Given) -> Vitals:
        found: Vitals = {}
        for ring in self.rings:
            rows = given.teacher.get(ring.source, given.student.get(ring.source))
            if rows is not None:
                share = share_found(rows.detach().flatten(0, -2), given.state[ring.name])
                found["queue_hits"] = max(share, found.get("queue_hits", 0.0))
        return found


def row_gradients(objective: Objective, given: Given) -> Rows:
    """Return the loss's gradient by each of the student's rows; a row it ignores is left out."""
    leaves = {name: rows.detach().requires_grad_() for name, rows in given.student.items()}
    shared = {name: value.detach() for name, value in given.shared.items()}
    with torch.enable_grad():
        again = dataclasses.replace(given, student=leaves, shared=shared)
        loss = objective.loss(again)["loss"]
    if not loss.requires_grad:
        return {}
    slopes = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {name: slope for name, slope in zip(leaves, slopes, strict=True) if slope is not None}


def radial_share(rows: Tensor, slopes: Tensor) -> float:
    """Return how much of the gradient points along the rows: 0 if their length does not matter."""
    along = (rows.detach() * slopes).sum(dim=-1).abs().sum()
    whole = (rows.detach().norm(dim=-1) * slopes.norm(dim=-1)).sum()
    return float(along / whole) if whole > 0 else 0.0


def share_of(part: Iterable[Tensor], whole: Iterable[Tensor]) -> float:
    """Return the norm of some gradients over the norm of all."""
    top, bottom = total_norm(part), total_norm(whole)
    return top / bottom if bottom > 0 else 0.0


def share_found(keys: Tensor, queue: Tensor) -> float:
    """Return the share of the first keys that stand in the queue, bit by bit."""
    keys = keys[:SAMPLE].to(queue.dtype)
    nearest = (keys @ queue.mT).argmax(dim=1)
    return float((queue[nearest] == keys).all(dim=1).float().mean())


def parameter_vitals(net: Network, state: State) -> Vitals:
    """Return gradient norms by part of the network, and how far the twin is from its student."""
    found = {}
    for name, part in net.parts.items():
        grads = [p.grad for p in part.parameters() if p.grad is not None]
        found[f"grad/{name}"] = total_norm(grads)
    return found | _twin(net, state)


def copy_parameters(net: Network) -> dict[str, list[Tensor]]:
    """Return copies of all parameters by part, to measure a step with."""
    return {
        name: [p.detach().clone() for p in part.parameters()] for name, part in net.parts.items()
    }


def update_vitals(net: Network, before: Mapping[str, list[Tensor]]) -> Vitals:
    """Return by part how far the step moved the parameters, over how long they are."""
    found = {}
    for name, part in net.parts.items():
        moved = [p.detach() - old for p, old in zip(part.parameters(), before[name], strict=True)]
        size = total_norm(before[name])
        found[f"update/{name}"] = total_norm(moved) / size if size > 0 else 0.0
    return found


def representation_vitals(representation: Tensor) -> Vitals:
    """Return rank and spread of representations (n, views, d)."""
    spectrum = measure_spectrum(first_rows(representation)[:SPECTRUM_ROWS])
    singular = spectrum.singular / spectrum.singular[0].clamp(min=1e-30)
    places = [2**power for power in range(1, 10) if 2**power <= len(singular)]
    return {
        **{f"singular/{place}": float(singular[place - 1]) for place in places},
        "rank": spectrum.effective_rank,
        "rank_me": spectrum.rank_me,
        "spread": spectrum.spread,
    }


def data_variety(store: PixelStore) -> float:
    """Return how much stored images differ: mean deviation over images, 0 to 1, coarsely seen."""
    count = min(SAMPLE, len(store))
    places = np.linspace(0, len(store) - 1, count).astype(int).tolist()
    pixels, _ = store.fetch(places)
    side = pixels.shape[1] // 4 * 4
    coarse = pixels[:, :side, :side].reshape(count, 4, side // 4, 4, side // 4, 3).mean(axis=(2, 4))
    return float(coarse.std(axis=0).mean() / 255)


def total_norm(tensors: Iterable[Tensor]) -> float:
    """Return the norm of all tensors together; sharded ones are put together first."""
    norms = [tensor.detach().float().norm() for tensor in tensors]
    whole = [norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms]
    return float(torch.stack(whole).norm()) if whole else 0.0


def first_rows(rows: Tensor) -> Tensor:
    """Return one row for each image, (n, d)."""
    return rows.flatten(1, -2)[:, 0] if rows.ndim > 2 else rows


def _twin(net: Network, state: State) -> Vitals:
    if state.twin is None:
        return {}
    slow, fast = [], []
    for name in state.twin.parts:
        slow += list(state.twin[name].parameters())
        fast += list(net[name].parameters())
    shared = sum(a.data_ptr() == b.data_ptr() for a, b in zip(slow, fast, strict=True))
    gaps = [a.detach() - b.detach() for a, b in zip(slow, fast, strict=True)]
    return {"twin_gap": share_of(gaps, fast), "twin_shared": shared / max(1, len(slow))}
