"""Numbers about the representation while training: rank, spread, online probe and kNN.

They read the detached representation of the step's own views, so they cost no forward pass and no
gradient reaches the encoder. They spend at most a set share of the time; when they would exceed
it they wait. Nothing that they do or skip changes the training.
"""

from __future__ import annotations

import time
from collections.abc import Callable

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
        self._rows: list[Tensor] = []
        self._labels: list[Tensor] = []

    def observe(self, representation: Tensor, labels: Tensor) -> dict[str, float]:
        """Look at representations (n, views, d); return what is new, often nothing."""
        now = self._clock()
        if self.spent > self.share * (now - self._began):
            return {}
        rows = representation[:, 0].detach().float()
        numbers = self._measure(rows, labels) if torch.isfinite(rows).all() else {}
        self.spent += self._clock() - now
        return numbers

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
        if sum(map(len, self._rows)) >= MEMORY // 2:
            bank, known = torch.cat(self._rows), torch.cat(self._labels)
            numbers["knn"] = knn_accuracy(bank, known, rows, labels)
        self._rows.append(rows)
        self._labels.append(labels)
        while sum(map(len, self._rows)) > MEMORY + len(rows):
            del self._rows[0], self._labels[0]
        return numbers


class OnlineProbe:
    """Linear softmax classifier on standardised rows, learned along the way."""

    def __init__(self, dim: int, classes: int, device: torch.device, lr: float = 0.1) -> None:
        self.weight = torch.zeros(classes, dim, device=device)
        self.bias = torch.zeros(classes, device=device)
        self.lr = lr
        self._accuracy: float | None = None

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
