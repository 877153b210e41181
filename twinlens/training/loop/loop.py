"""The one loop: views, encode, loss, step, post-step; for every method.

It owns device, precision, ranks, schedules, checkpoints, monitors and progress. A run is a pure
function of (config, data): killed at any moment and started again, it ends with the same bytes (on
a CPU with the same number of threads).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from twinlens.errors import TwinlensError
from twinlens.training.config import Config
from twinlens.training.distributed.sharding import whole
from twinlens.training.loop.gradients import BackwardResult
from twinlens.training.loop.optimizers import drop_frozen, schedule_rates
from twinlens.training.loop.session import Session, open_session
from twinlens.training.loop.stopping import StopRequest, defer_signals
from twinlens.training.loop.validation import StoppedInsideError
from twinlens.training.progress import Display, Silent
from twinlens.training.runs.checkpoints import find_checkpoint
from twinlens.training.runs.run import CHECKPOINTS
from twinlens.training.schedules import TrainingProgress
from twinlens.training.seeds import mix


@dataclass(frozen=True)
class Finished:
    """How a run ended."""

    folder: Path
    step: int
    loss: float
    seconds: float
    best: str = ""  # of a run that was validated: its best validation, in words
    validation: float = 0.0  # seconds that validation took


class NotFiniteError(TwinlensError):
    """A loss or gradient that is not finite; the run stops and keeps its last good checkpoint."""

    code = "loss_not_finite"


def train(config: Config, where: str, out: Path, display: Display | None = None) -> Finished:
    """Train the run `out` to its end, from its latest checkpoint if there is one."""
    display = display or Silent()
    began = time.monotonic()
    session = open_session(config, where, out, display)
    loss = float("nan")
    try:
        with defer_signals() as stop:
            validate(session, stop, display)  # before the first step, or where a stop came before
            if stop.requested and session.step < session.total:
                _stop(session, display)
            while session.step < session.total and not _stops_early(session, display):
                loss = take_step(session, session.step, display)
                validate(session, stop, display)
                if stop.requested and session.step < session.total:
                    _stop(session, display)
            if session.step > session.saved:
                session.save()
    finally:
        session.close()
    session.leave()
    finished = Finished(out, session.step, loss, time.monotonic() - began)
    if session.validator is None:
        return finished
    validator = session.validator
    return replace(finished, best=validator.summary(), validation=validator.seconds)


def validate(session: Session, stop: StopRequest, display: Display) -> None:
    """Validate if it is due: log, save the best, then the checkpoint that was due too."""
    if session.validator is None or not session.validation_due(session.step):
        return
    try:
        numbers, is_best = session.validator.run(session.step, stop, display)
    except StoppedInsideError:
        return
    session.log.add(session.step, numbers)
    if is_best:
        session.save_best()
    if session.step and session.save_due(session.step):
        session.save()


def _stops_early(session: Session, display: Display) -> bool:
    """Tell whether validations have stood still for long enough; say so."""
    if session.validator is None or not session.validator.stops:
        return False
    if session.ranks.first:
        display.say(
            f"stopped early after step {session.step} of {session.total}:"
            f" {session.validator.record.worse} validations in a row were no better;"
            f" {session.validator.summary()}"
        )
    return True


def _stop(session: Session, display: Display) -> None:
    """End an interrupted run at the end of a step.

    Several ranks receive a signal in different steps and a checkpoint needs them all, so they keep
    the last one.
    """
    if session.ranks.world == 1:
        session.save()
    display.say(f"stopped after step {session.saved}; the same command goes on from there")
    raise KeyboardInterrupt


def take_step(session: Session, step: int, display: Display) -> float:
    """Take one optimizer step and all that belongs to it; return its loss."""
    started = time.perf_counter()
    settings = session.config.settings
    progress = TrainingProgress(step, session.total, session.per_epoch)
    torch.manual_seed(mix(settings.seed, step, session.ranks.rank, 7))
    batch = session.feeder.batch(step)
    lr = schedule_rates(session.optimizer, settings, progress)
    due = (step + 1) % settings.log_every == 0 or step + 1 == session.total
    session.health.begin_step(due)
    session.optimizer.zero_grad(set_to_none=True)
    result = session.differentiator.backward(batch, progress, accumulate=settings.accumulate)
    drop_frozen(session.optimizer, progress)
    session.scaler.unscale(session.optimizer)
    session.health.after_backward(session.net, session.state)
    norm = clip_gradients(session.net, settings.clip)
    checked = due or session.save_due(step + 1) or session.device.type == "cpu"
    if checked:
        _check_finite(session, result, norm, step)
    if session.scaler.step(session.optimizer):
        session.state.update(session.net, result.state_rows, progress, session.ranks)
    session.health.after_step(session.net, result.representation)
    session.step = step + 1
    session.observe(result.representation, batch.extra["labels"])
    if session.save_due(step + 1) and not session.validation_due(step + 1):
        session.save()  # else after the validation, which belongs to it
    if due:
        numbers = _numbers(session, result, norm, lr, time.perf_counter() - started)
        _report(session, numbers, display)
    return float(result.terms["loss"]) if checked else float("nan")


def _report(session: Session, numbers: dict[str, float], display: Display) -> None:
    """Log a step, show it, and print the doctor's new findings."""
    row = numbers | session.scaler.take() | session.take_observations() | session.health.take()
    if session.scaler.enabled:
        row = drop_overflow(row)
    session.log.add(session.step, row)
    shown = {name: numbers[name] for name in ("loss", "images/s")}
    display.advance(session.config.method, session.step, session.total, shown)
    if session.ranks.first:
        for line in session.health.new_findings({"step": session.step, **row}):
            display.say(line)


def drop_overflow(row: dict[str, float]) -> dict[str, float]:
    """Return a row without what a skipped step measured: its gradient, and no movement."""
    finite = {name: value for name, value in row.items() if math.isfinite(value)}
    if len(finite) == len(row):
        return row
    return {k: value for k, value in finite.items() if not k.startswith(("grad/", "update/"))}


def _numbers(
    session: Session, result: BackwardResult, norm: torch.Tensor, lr: float, seconds: float
) -> dict[str, float]:
    """Return what the log keeps of a step."""
    terms = {name: float(value) for name, value in result.terms.items()}
    speed = session.config.settings.batch / seconds
    return {**terms, "lr": lr, "gradient": float(norm), "images/s": round(speed, 1)}


def clip_gradients(net: nn.Module, limit: float) -> torch.Tensor:
    """Shorten the gradient to `limit` (0 = any length); return how long it was."""
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), limit or float("inf"), foreach=True)
    return whole(norm)


def _check_finite(session: Session, result: BackwardResult, norm: torch.Tensor, step: int) -> None:
    """Stop before a step would spoil the weights; name the term at fault."""
    wrong = [name for name, value in result.terms.items() if not torch.isfinite(value)]
    if not wrong and not torch.isfinite(norm) and not session.scaler.patient:
        wrong = ["the gradient"]
    if not wrong:
        return
    session.log.add(step + 1, {"not_finite": 1.0})
    parts = [name for name in wrong if name != "loss"] or wrong
    last = find_checkpoint(session.folder / CHECKPOINTS)
    kept = f"the last good checkpoint is {last}" if last else "no checkpoint was due before it"
    raise NotFiniteError(
        f"step {step + 1}: {', '.join(parts)} is not finite; stopped, and {kept}."
        " A smaller lr, a longer warmup or clip=1 usually cures it"
    )
