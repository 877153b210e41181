"""A learning rate for any method: raise it step by step until steps become too long.

The loss of a self-supervised method is a poor guide (it falls when a run collapses), so the measure
is the norm of the encoder's step over the norm of its weights. What must stay true: the trial
leaves nothing behind, and nothing of it enters the run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from twinlens.errors import InputError
from twinlens.training.config import OF_HELD_OUT, Config, TrainingSettings
from twinlens.training.doctor.measurements import copy_parameters, measure_updates
from twinlens.training.loop.loop import NotFiniteError
from twinlens.training.loop.opening import open_session
from twinlens.training.loop.optimizers import rate_scale, schedule_rates
from twinlens.training.loop.session import Session
from twinlens.training.progress import Display
from twinlens.training.report.charts import draw_lines, draw_page
from twinlens.training.schedules import TrainingProgress
from twinlens.training.seeds import mix

STEPS = 60
LOWEST, HIGHEST = 1e-6, 10.0
STRIDE = 0.01  # of the weights' norm: how far a first full step may move the encoder


@dataclass(frozen=True)
class Trial:
    """The rates tried, with the loss before each step and its relative step norm."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    strides: tuple[float, ...]

    def pick(self) -> float:
        """Return the rate at which the relative step norm reaches `STRIDE`, interpolated."""
        long = next((i for i, stride in enumerate(self.strides) if stride > STRIDE), None)
        if long is None:
            raise InputError(f"even a rate of {self.rates[-1]:g} moves the encoder too little")
        if long == 0:
            return self.rates[0]
        low, high = self.strides[long - 1], self.strides[long]
        if low <= 0:
            return self.rates[long]
        share = math.log(STRIDE / low) / math.log(high / low)
        return float(self.rates[long - 1] * (self.rates[long] / self.rates[long - 1]) ** share)

    def page(self) -> str:
        """Return the trial as a page with two charts over log10 of the rate."""
        places = [math.log10(rate) for rate in self.rates]
        charts = (
            draw_lines("loss over log10 of the rate", {"loss": pair(places, self.losses)}),
            draw_lines("step over weights", {"encoder": pair(places, self.strides)}, STRIDE),
        )
        return draw_page("How far a step goes at rising rates", charts)


def find_rate(config: Config, where: str, display: Display) -> tuple[float, Trial]:
    """Return the `lr` to set for this configuration and data, and the trial behind it."""
    usual = TrainingSettings()
    settings = dataclasses.replace(
        config.settings,
        steps=STEPS,
        doctor=False,
        monitor_share=0.0,
        save_every=10**9,
        **{key: getattr(usual, key) for key in ("eval", *OF_HELD_OUT)},
    )
    with TemporaryDirectory() as folder:
        session = open_session(
            dataclasses.replace(config, settings=settings), where, Path(folder) / "run", display
        )
        try:
            trial = try_rates(session, display)
        finally:
            session.close()
    return trial.pick() / rate_scale(settings), trial


def try_rates(session: Session, display: Display) -> Trial:
    """Take a step at each rate, rising by equal factors, until steps are ten times too long."""
    rates, losses, strides = [], [], []
    for step in range(STEPS):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
        loss, stride = _step_at(session, step, rate)
        if not math.isfinite(loss):
            break
        rates.append(rate)
        losses.append(loss)
        strides.append(stride)
        display.advance("finding lr", step + 1, STEPS, {"lr": rate, "loss": loss})
        if stride > 10 * STRIDE:
            break
    if not rates:
        raise NotFiniteError("the loss is not finite before the first step")
    return Trial(tuple(rates), tuple(losses), tuple(strides))


def pair(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """Return the points of both charts."""
    return list(zip(xs, ys, strict=True))


def _step_at(session: Session, step: int, rate: float) -> tuple[float, float]:
    """Take one step at a rate; return the loss before it and the relative step norm."""
    settings = session.config.settings
    progress = TrainingProgress(step, STEPS, session.per_epoch)
    torch.manual_seed(mix(settings.seed, step, session.ranks.rank, 7))
    batch = session.feeder.batch(step)
    schedule_rates(session.optimizer, settings, progress)
    for group in session.optimizer.param_groups:
        group["lr"] = rate * group["rule"].lr_factor
    session.optimizer.zero_grad(set_to_none=True)
    result = session.differentiator.backward(batch, progress, accumulate=settings.accumulate)
    loss = float(result.terms["loss"])
    if not math.isfinite(loss):
        return loss, math.inf
    session.scaler.unscale(session.optimizer)
    torch.nn.utils.clip_grad_norm_(session.net.parameters(), settings.clip or math.inf)
    before = copy_parameters(session.net)
    if session.scaler.step(session.optimizer):
        session.state.update(session.net, result.state_rows, progress, session.ranks)
    return loss, float(measure_updates(session.net, before)["update/image"])
