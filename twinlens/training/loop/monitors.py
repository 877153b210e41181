"""Metrics of the representation while training: rank, spread, online probe and kNN.

They read the detached representation of the step's own views, so they need no forward pass, and no
gradient reaches the encoder. On a CPU they take at most a set share of the time and skip steps
beyond it, so which steps they observe depends on the clock; on an accelerator they observe the
logged steps and never wait. A resumed run restores what they have learned. What must stay true:
nothing that they do or skip changes the training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from twinlens.training.evaluation.knn import knn_predict
from twinlens.training.evaluation.readings import Reading, SpectrumReading, StepNumbers
from twinlens.training.evaluation.spectrum import Spectrum, sum_spectrum

MEMORY = 2048  # recent representations that vote in the online kNN
SMOOTHING = 0.1
NEIGHBOURS, TEMPERATURE = 20, 0.1  # of the online kNN, as in an evaluation


class Monitors:
    """All online monitors of a run."""

    def __init__(
        self, classes: int, share: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.share, self.spent = share, 0.0
        self._classes, self._clock = classes, clock
        self._began = clock()
        self._probe: OnlineProbe | None = None
        self._rows: Tensor | None = None
        self._labels: Tensor | None = None

    def observe(self, representation: Tensor, labels: Tensor) -> StepNumbers:
        """Observe representations (n, views, d) if there is time; return new numbers, or none."""
        now = self._clock()
        if self.spent > self.share * (now - self._began):
            return {}
        rows = representation[:, 0]
        numbers = self.read(representation, labels).finish() if rows.isfinite().all() else {}
        self.spent += self._clock() - now
        return numbers

    @torch.no_grad()
    def read(self, representation: Tensor, labels: Tensor) -> Reading:
        """Observe representations (n, views, d) without waiting for their device."""
        rows = representation[:, 0].detach().float()
        spectrum = SpectrumReading(sum_spectrum(rows), _name_spectrum)
        values = self._judge(rows, labels) if self._classes > 1 else {}
        return Reading(values, (spectrum,))

    def state(self) -> dict[str, Tensor]:
        """Return what was learned so far: the probe and the rows that vote in kNN."""
        if self._probe is None or self._rows is None or self._labels is None:
            return {}
        return {"rows": self._rows, "labels": self._labels} | self._probe.state()

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Restore what `state` returned."""
        if not state:
            return
        kept = {name: value.to(device) for name, value in state.items()}
        self._rows, self._labels = kept["rows"], kept["labels"]
        self._probe = OnlineProbe(kept["rows"].shape[1], self._classes, device)
        self._probe.restore(kept)

    def _judge(self, rows: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return online accuracies: predict first, then learn. Unlabelled rows are ignored."""
        labels = torch.where(rows.isfinite().all(dim=1), labels, -1)
        rows = rows.nan_to_num()
        known = (labels >= 0).float()
        if self._probe is None:
            self._probe = OnlineProbe(rows.shape[1], self._classes, rows.device)
        values = {"probe": self._probe.learn(rows, labels, known)}
        bank, seen = self._rows, self._labels
        if bank is None or seen is None:
            bank, seen = rows[:0], labels[:0]
        if len(bank) >= MEMORY // 2:
            found = knn_predict(
                bank, seen, rows, classes=self._classes, k=NEIGHBOURS, temperature=TEMPERATURE
            )
            values["knn"] = mean_over((found == labels).float(), known)
        self._rows = torch.cat([bank, rows])[-MEMORY:]
        self._labels = torch.cat([seen, labels])[-MEMORY:]
        return values


def mean_over(values: Tensor, known: Tensor) -> Tensor:
    """Return the mean of values (n, ...) over the rows that are known (n,); 0 if none is."""
    weights = known.view(-1, *[1] * (values.ndim - 1))
    return (values * weights).sum(dim=0) / known.sum().clamp(min=1)


def _name_spectrum(spectrum: Spectrum) -> StepNumbers:
    return {"rank": spectrum.effective_rank, "spread": spectrum.spread}


class OnlineProbe:
    """Linear softmax classifier on standardised rows, trained online."""

    def __init__(self, dim: int, classes: int, device: torch.device, lr: float = 0.1) -> None:
        self.weight = torch.zeros(classes, dim, device=device)
        self.bias = torch.zeros(classes, device=device)
        self.lr = lr
        self._accuracy: Tensor | None = None

    def state(self) -> dict[str, Tensor]:
        """Return what it has learned."""
        hits = torch.tensor(-1.0) if self._accuracy is None else self._accuracy
        return {"weight": self.weight, "bias": self.bias, "accuracy": hits.double()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.weight, self.bias = state["weight"].clone(), state["bias"].clone()
        self._accuracy = state["accuracy"].float() if state["accuracy"] >= 0 else None

    @torch.no_grad()
    def learn(self, rows: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        """Predict the labels, then take one gradient step; return the smoothed accuracy.

        Rows that are not `known` (n,), of 0 and 1, are ignored.
        """
        count = known.sum()
        centred = rows - mean_over(rows, known)
        variance = mean_over(centred.square(), known) * count / (count - 1).clamp(min=1)
        rows = centred / (variance.sqrt() + 1e-5)
        probabilities = (rows @ self.weight.mT + self.bias).softmax(dim=1)
        hit = mean_over((probabilities.argmax(dim=1) == labels).float(), known)
        before = hit if self._accuracy is None else self._accuracy
        self._accuracy = torch.where(count > 0, before + SMOOTHING * (hit - before), before)
        truth = labels.clamp(min=0)[:, None]
        error = (
            probabilities.scatter_add(1, truth, -torch.ones_like(probabilities[:, :1]))
            * known[:, None]
        )
        step = self.lr / count.clamp(min=1)
        self.weight -= step * (error.mT @ rows)
        self.bias -= step * error.sum(dim=0)
        return self._accuracy
