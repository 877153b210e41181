"""The one training loop: views, encode, loss, step, post-step; for every method.

It owns device, precision, ranks, schedules, checkpoints, monitors and progress. What must stay
true: a run is a pure function of (config, data): killed at any moment and started again, it ends
with the same bytes (on a CPU with the same number of threads).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from twinlens.errors import TwinlensError
from twinlens.training.config import Config
from twinlens.training.devices import is_accelerator
from twinlens.training.distributed.sharding import whole
from twinlens.training.evaluation.readings import Reading, StepNumbers
from twinlens.training.loop.gradients import BackwardResult
from twinlens.training.loop.opening import open_session
from twinlens.training.loop.optimizers import drop_frozen, schedule_rates
from twinlens.training.loop.session import Session
from twinlens.training.loop.stopping import StopRequest, defer_signals
from twinlens.training.loop.validation import StoppedInsideError
from twinlens.training.progress import Display, Silent
from twinlens.training.runs.checkpoints import find_checkpoint
from twinlens.training.runs.run import CHECKPOINTS
from twinlens.training.schedules import TrainingProgress
from twinlens.training.seeds import mix


@dataclass(frozen=True)
class Finished:
    """The outcome of a run."""

    folder: Path
    step: int
    loss: float
    seconds: float
    best: str = ""  # the best validation, in words, if the run was validated
    validation: float = 0.0  # seconds spent on validation


class NotFiniteError(TwinlensError):
    """A loss or gradient that is not finite; the run stops and keeps its last good checkpoint."""

    code = "loss_not_finite"


def train(config: Config, where: str, out: Path, display: Display | None = None) -> Finished:
    """Train the run `out` to its end, from its latest checkpoint if there is one."""
    display = display or Silent()
    began = time.monotonic()
    session = open_session(config, where, out, display)
    try:
        with defer_signals() as stop:
            validate(session, stop, display)  # before the first step, or after a stop
            if stop.requested and session.step < session.total:
                _stop(session, display)
            while session.step < session.total and not _stops_early(session, display):
                take_step(session, session.step, display)
                validate(session, stop, display)
                if stop.requested and session.step < session.total:
                    _stop(session, display)
            report(session, display, wait=True)
            if session.step > session.saved:
                session.save()
    finally:
        session.close()
    session.leave()
    finished = Finished(out, session.step, session.loss, time.monotonic() - began)
    if session.validator is None:
        return finished
    validator = session.validator
    return replace(finished, best=validator.summary(), validation=validator.seconds)


def validate(session: Session, stop: StopRequest, display: Display) -> None:
    """Validate if it is due: log, save the best, then a checkpoint that was due too."""
    if session.validator is None or not session.validation_due(session.step):
        return
    report(session, display, wait=True)
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
    """Tell whether `patience` validations brought no improvement; report it."""
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

    Ranks receive a signal in different steps, and a checkpoint needs all ranks, so several ranks
    keep the last checkpoint.
    """
    report(session, display, wait=True)
    if session.ranks.world == 1:
        session.save()
    display.say(f"stopped after step {session.saved}; the same command continues from there")
    raise KeyboardInterrupt


def take_step(session: Session, step: int, display: Display) -> float:
    """Take one optimizer step with everything that belongs to it; return its loss.

    On an accelerator the step is queued: nothing is read back unless it saves, and the returned
    loss is the last known one.
    """
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
    checked = session.save_due(step + 1) or not is_accelerator(session.device)
    norm = clip_gradients(session.net, settings.clip, measured=due or checked)
    if checked:
        session.loss = _check_step(session, result, norm, step + 1)
    if session.scaler.step(session.optimizer):
        session.state.update(session.net, result.state_rows, progress, session.ranks)
    session.health.after_step(session.net, result.representation)
    session.step = step + 1
    session.observe(result.representation, batch.extra["labels"], due=due)
    session.count_step(time.perf_counter() - started)
    if due:
        session.reporter.add(session.step, _read_step(session, result, norm, lr))
    if session.save_due(step + 1) and not session.validation_due(step + 1):
        if is_accelerator(session.device):
            report(session, display, wait=True)
        session.save()  # else after the validation, which belongs to it
    report(session, display)
    return session.loss


def report(session: Session, display: Display, *, wait: bool = False) -> None:
    """Log the steps whose numbers have arrived, or wait for all; print the doctor's findings."""
    for step, row in session.reporter.take(wait=wait):
        if is_accelerator(session.device):
            _check_finite(session, {name: row[name] for name in session.checked}, step)
            session.loss = row["loss"]
        _log(session, step, drop_overflow(row) if session.scaler.enabled else row, display)


def _log(session: Session, step: int, row: StepNumbers, display: Display) -> None:
    session.log.add(step, row)
    shown = {name: row[name] for name in ("loss", "images/s")}
    display.advance(session.config.method, step, session.total, shown)
    if session.ranks.first:
        for line in session.health.new_findings({"step": step, **row}):
            display.say(line)


def _read_step(session: Session, result: BackwardResult, norm: Tensor | None, lr: float) -> Reading:
    """Return the log row of a step."""
    assert norm is not None, "a logged step whose gradient was not measured. This is a bug"
    session.checked = (*result.terms, "gradient")
    own = Reading({**result.terms, "lr": lr, "gradient": norm, **session.take_speed()})
    scaling = Reading(session.scaler.take())
    return own | scaling | session.take_observations() | session.health.take()


def drop_overflow(row: dict[str, float]) -> dict[str, float]:
    """Return the row of a skipped step: without its gradient, with zero movement."""
    finite = {name: value for name, value in row.items() if math.isfinite(value)}
    if len(finite) == len(row):
        return row
    return {k: value for k, value in finite.items() if not k.startswith(("grad/", "update/"))}


def clip_gradients(net: nn.Module, limit: float, *, measured: bool = True) -> Tensor | None:
    """Clip the gradient norm to `limit` (0 = no limit); return the norm before.

    Without a limit it is measured only if asked for.
    """
    if not limit and not measured:
        return None
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), limit or float("inf"), foreach=True)
    return whole(norm)


def _check_step(session: Session, result: BackwardResult, norm: Tensor | None, step: int) -> float:
    """Raise before a non-finite step reaches the weights; return its loss."""
    assert norm is not None, "a checked step whose gradient was not measured. This is a bug"
    numbers = Reading({**result.terms, "gradient": norm}).finish()
    _check_finite(session, numbers, step)
    return numbers["loss"]


def _check_finite(session: Session, numbers: StepNumbers, step: int) -> None:
    """Refuse a non-finite step; name the term at fault."""
    wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
    if wrong == ["gradient"]:
        wrong = [] if session.scaler.patient else ["the gradient"]
    if not wrong:
        return
    session.log.add(step, {"not_finite": 1.0})
    parts = [name for name in wrong if name not in ("loss", "gradient")] or wrong[:1]
    last = find_checkpoint(session.folder / CHECKPOINTS)
    kept = f"the last good checkpoint is {last}" if last else "no checkpoint was due before it"
    raise NotFiniteError(
        f"step {step}: {', '.join(parts)} is not finite; stopped, and {kept}."
        " A smaller lr, a longer warmup or clip=1 usually fixes it"
    )
