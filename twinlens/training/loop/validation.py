"""Validation while training: when it is due, its metric, the best checkpoint, and early stopping.

A validation evaluates the towers that would be served, in evaluation mode and fp32, on the first
rank; it draws no random number and changes no weight. What must stay true: its record is in each
checkpoint, so that a resumed run validates and decides as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from twinlens.training.config import Config
from twinlens.training.data.tokens import RunTokenizer
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.doctor.history import HELD_OUT
from twinlens.training.evaluation.embeddings import TowerEmbedder
from twinlens.training.evaluation.held_out import HeldOutData
from twinlens.training.loop.run_data import RunRecords
from twinlens.training.loop.stopping import StopRequest
from twinlens.training.nn.network import Network
from twinlens.training.progress import Display
from twinlens.training.runs.run import serve_towers
from twinlens.training.runs.state import State

FACT = "validation"  # the record's name in a checkpoint
NEVER = -1


class StoppedInsideError(Exception):
    """A stop was requested during a validation: it is discarded, and repeated later."""


@dataclass(frozen=True)
class ValidationRecord:
    """The results of validations up to a step."""

    step: int = NEVER  # of the latest validation
    best: float = -1.0  # the metric that selects the best checkpoint
    best_step: int = NEVER
    worse: int = 0  # validations since the best

    def add(self, step: int, value: float) -> ValidationRecord:
        """Return the record after another validation; among equal ones the first is the best."""
        if value > self.best:
            return ValidationRecord(step, value, step, 0)
        return dataclasses.replace(self, step=step, worse=self.worse + 1)


@dataclass
class Validator:
    """The held-out data of a run, the evaluated towers, and the record of results."""

    config: Config
    data: HeldOutData
    net: Network
    state: State
    tokenizer: RunTokenizer | None
    device: torch.device
    ranks: Ranks
    every: int
    record: ValidationRecord = ValidationRecord()
    seconds: float = 0.0  # seconds of validation in this process

    def due(self, step: int, total: int) -> bool:
        """Tell whether a validation is due after `step`: at the start, at intervals, at the end."""
        return self.record.step != step and (step % self.every == 0 or step == total)

    @property
    def stops(self) -> bool:
        """Whether `patience` validations in a row brought no improvement."""
        patience = self.config.settings.patience
        return 0 < patience <= self.record.worse

    def run(self, step: int, stop: StopRequest, display: Display) -> tuple[dict[str, float], bool]:
        """Validate; return the numbers for the log, and whether they are the best so far."""
        began = time.monotonic()
        numbers = self._ask(step, stop, display) if self.ranks.first else {}
        value = torch.tensor([numbers.get(self.data.by, 0.0)], dtype=torch.float64)
        shared = self.ranks.mean(value.to(self.device)) * self.ranks.world
        before, self.record = self.record, self.record.add(step, float(shared))
        took = time.monotonic() - began
        self.seconds += took
        found = {f"{HELD_OUT}{name}": number for name, number in numbers.items()}
        is_best = self.record.best_step == step
        if self.ranks.first:
            display.say(_tell(step, numbers, self.data.by, before, took, is_best=is_best))
        return found | {f"{HELD_OUT}seconds": round(took, 2)}, is_best

    def facts(self) -> dict[str, Any]:
        """Return the facts for a checkpoint."""
        return {FACT: dataclasses.asdict(self.record)}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Restore what `facts` returned."""
        self.record = ValidationRecord(**facts[FACT]) if FACT in facts else ValidationRecord()

    def summary(self) -> str:
        """Return the best validation in words."""
        record = self.record
        return f"best {self.data.by} {record.best:.4g} after step {record.best_step}"

    def _ask(self, step: int, stop: StopRequest, display: Display) -> dict[str, float]:
        parts = self.config.objective.paths["image"]
        still = not any(p.requires_grad for part in parts for p in self.net[part].parameters())

        def tick(done: int, of: int) -> None:
            if stop.requested and self.ranks.world == 1:
                raise StoppedInsideError
            display.advance(f"validating after step {step}", done, of, {})

        with self._serving() as embedder:
            return self.data.measure(embedder, tick, still=still)

    @contextlib.contextmanager
    def _serving(self) -> Iterator[TowerEmbedder]:
        """Yield the towers that would be served, in evaluation mode until the block ends."""
        objective = self.config.objective
        teacher = self.state.ema_teacher if objective.served == "teacher" else None
        towers = serve_towers(objective, self.net, teacher)
        modules = {id(module): module for tower in towers.values() for module in tower.modules()}
        modes = {key: module.training for key, module in modules.items()}
        for tower in towers.values():
            tower.eval()
        try:
            yield TowerEmbedder(towers, self.config.settings, self.tokenizer, self.device)
        finally:
            for key, module in modules.items():
                module.training = modes[key]


def open_validator(
    config: Config,
    records: RunRecords,
    net: Network,
    state: State,
    ranks: Ranks,
    device: torch.device,
    per_epoch: int,
    display: Display,
) -> Validator | None:
    """Return the validator of a run with held-out data."""
    if records.held_out is None:
        return None
    data = HeldOutData(config, records.held_out, records.source)
    if ranks.first:
        words = f"; {data.bank_words}" if data.bank_words else ""
        display.say(f"validation on {len(data)} images by {data.by}{words}")
    every = config.settings.eval_every or per_epoch
    return Validator(config, data, net, state, records.tokenizer, device, ranks, every)


def _tell(
    step: int,
    numbers: Mapping[str, float],
    by: str,
    before: ValidationRecord,
    seconds: float,
    *,
    is_best: bool,
) -> str:
    """Return a validation as one line."""
    words = "  ".join(
        f"{name} {number:.1f}" for name, number in numbers.items() if "_to_" not in name
    )
    verdict = (
        "the best" if is_best else f"the best {by} was {before.best:.1f}, step {before.best_step}"
    )
    return f"validated after step {step} in {seconds:.1f} s: {words} ({verdict})"
