"""Numbers about the representation while training: rank, spread, online probe and kNN.

They read the detached representation of the step's own views, so they cost no forward pass and no
gradient reaches the encoder. They use at most a set share of the time and skip steps beyond it.
Nothing that they do or skip changes the training. What they have learned is kept over a resume;
which steps they observe depends on the clock, so their numbers are not bit-exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from twinlens.training.evaluation.knn import knn_accuracy
from twinlens.training.evaluation.spectrum import measure_spectrum

MEMORY = 2048  # recent representations that the online kNN votes with
SMOOTHING = 0.1


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

    def observe(self, representation: Tensor, labels: Tensor) -> dict[str, float]:
        """Observe representations (n, views, d); return new numbers, often none."""
        now = self._clock()
        if self.spent > self.share * (now - self._began):
            return {}
        rows = representation[:, 0].detach().float()
        numbers = self._measure(rows, labels) if torch.isfinite(rows).all() else {}
        self.spent += self._clock() - now
        return numbers

    def state(self) -> dict[str, Tensor]:
        """Return what was learned so far: the probe and the rows that kNN votes with."""
        if self._probe is None or self._rows is None or self._labels is None:
            return {}
        return {"rows": self._rows, "labels": self._labels} | self._probe.state()

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Put back what `state` returned."""
        if not state:
            return
        kept = {name: value.to(device) for name, value in state.items()}
        self._rows, self._labels = kept["rows"], kept["labels"]
        self._probe = OnlineProbe(kept["rows"].shape[1], self._classes, device)
        self._probe.restore(kept)

    def _measure(self, rows: Tensor, labels: Tensor) -> dict[str, float]:
        spectrum = measure_spectrum(rows)
        numbers = {"rank": spectrum.effective_rank, "spread": spectrum.spread}
        known = labels >= 0
        if self._classes > 1 and known.any():
            numbers |= self._judge(rows[known], labels[known])
        return numbers

    def _judge(self, rows: Tensor, labels: Tensor) -> dict[str, float]:
        """Return online accuracies: predict first, learn after."""
        if self._probe is None:
            self._probe = OnlineProbe(rows.shape[1], self._classes, rows.device)
        numbers = {"probe": self._probe.learn(rows, labels)}
        bank, known = self._rows, self._labels
        if bank is None or known is None:
            bank, known = rows[:0], labels[:0]
        if len(bank) >= MEMORY // 2:
            numbers["knn"] = knn_accuracy(bank, known, rows, labels)
        self._rows = torch.cat([bank, rows])[-MEMORY:]
        self._labels = torch.cat([known, labels])[-MEMORY:]
        return numbers


class OnlineProbe:
    """Linear softmax classifier on standardised rows, learned along the way."""

    def __init__(self, dim: int, classes: int, device: torch.device, lr: float = 0.1) -> None:
        self.weight = torch.zeros(classes, dim, device=device)
        self.bias = torch.zeros(classes, device=device)
        self.lr = lr
        self._accuracy: float | None = None

    def state(self) -> dict[str, Tensor]:
        """Return what it has learned."""
        hits = torch.tensor(-1.0 if self._accuracy is None else self._accuracy, dtype=torch.float64)
        return {"weight": self.weight, "bias": self.bias, "accuracy": hits}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        self.weight, self.bias = state["weight"].clone(), state["bias"].clone()
        self._accuracy = float(state["accuracy"]) if state["accuracy"] >= 0 else None

    @torch.no_grad()
    def learn(self, rows: Tensor, labels: Tensor) -> float:
        """Predict the labels, then take one gradient step; return the smoothed accuracy."""
        rows = (rows - rows.mean(dim=0)) / (rows.std(dim=0) + 1e-5)
        odds = (rows @ self.weight.mT + self.bias).softmax(dim=1)
        hit = float((odds.argmax(dim=1) == labels).float().mean())
        before = hit if self._accuracy is None else self._accuracy
        self._accuracy = before + SMOOTHING * (hit - before)
        error = odds - torch.nn.functional.one_hot(labels, len(self.bias))
        step = self.lr / len(rows)
        self.weight -= step * (error.mT @ rows)
        self.bias -= step * error.sum(dim=0)
        return self._accuracy
