"""All that a run holds while it trains, and how it is opened, resumed and saved."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from twinlens.training.config import Config, apply_sets
from twinlens.training.data.feeder import Feeder, KeptViews
from twinlens.training.data.pixels import PixelStore
from twinlens.training.devices import pick_device
from twinlens.training.distributed.ranks import Ranks, join_ranks, leave_ranks, wrap_ddp
from twinlens.training.distributed.sharding import whole
from twinlens.training.doctor.health_monitor import HealthMonitor
from twinlens.training.encoders.token_tower import side_step
from twinlens.training.loop.extras import ExtraContext, open_extras
from twinlens.training.loop.gradients import Differentiator
from twinlens.training.loop.locked import ask_locked
from twinlens.training.loop.monitors import Monitors
from twinlens.training.loop.run_data import (
    RunData,
    check_division,
    load_run_data,
    open_records,
)
from twinlens.training.loop.run_model import RunModel, open_run_model, try_network
from twinlens.training.loop.scaling import LossScaler
from twinlens.training.loop.teaching import provide_taught
from twinlens.training.loop.validation import Validator, open_validator
from twinlens.training.nn.network import Network
from twinlens.training.nn.teachers import Teaching
from twinlens.training.progress import Display
from twinlens.training.ranges import check_config
from twinlens.training.runs.checkpoints import (
    BEST,
    MONITORS,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    Checkpoint,
    optimizer_tensors,
    save_checkpoint,
)
from twinlens.training.runs.logs import Log, NoLog, read_log
from twinlens.training.runs.run import BAD, CHECKPOINTS
from twinlens.training.runs.state import State
from twinlens.training.views.maker import ViewMaker

SAVES_PER_RUN = 10
NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Session:
    """A run in memory. `step` optimizer steps are done."""

    config: Config
    folder: Path
    ranks: Ranks
    device: torch.device
    feeder: Feeder
    net: Network
    state: State
    optimizer: torch.optim.Optimizer
    differentiator: Differentiator
    scaler: LossScaler
    monitors: Monitors
    health: HealthMonitor
    log: Log | NoLog
    total: int
    validator: Validator | None = None
    step: int = 0
    saved: int = 0
    _observed: dict[str, float] = field(default_factory=dict)

    @property
    def per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return self.feeder.order.per_epoch

    def save_due(self, step: int) -> bool:
        """Tell whether a checkpoint belongs after `step`."""
        every = self.config.settings.save_every or max(1, math.ceil(self.total / SAVES_PER_RUN))
        return step % every == 0 or step == self.total

    def save(self) -> None:
        """Write a checkpoint; all ranks gather it, the first one writes."""
        tensors = {
            WEIGHTS: {name: whole(value) for name, value in self.net.parts.state_dict().items()},
            STATE: self.state.state_dict(),
            OPTIMIZER: optimizer_tensors(self.optimizer, self.net.parts),
            MONITORS: self.monitors.state(),
        }
        if self.ranks.first:
            found = Checkpoint(tensors, self._facts())
            save_checkpoint(self.folder / CHECKPOINTS, found, keep=self.config.settings.keep)
            _write_bad(self.folder, self.feeder.store)
        self.saved = self.step
        self.ranks.wait()

    def save_best(self) -> None:
        """Write what is served now as the best checkpoint."""
        if self.ranks.first:
            tensors = {WEIGHTS: self.net.parts.state_dict(), STATE: self.state.state_dict()}
            found = Checkpoint(tensors, self._facts())
            save_checkpoint(self.folder / CHECKPOINTS, found, keep=1, kind=BEST)
        self.ranks.wait()

    def validation_due(self, step: int) -> bool:
        """Tell whether a validation belongs after `step` and has not been made."""
        return self.validator is not None and self.validator.due(step, self.total)

    def _facts(self) -> dict[str, Any]:
        """Return the facts of a checkpoint."""
        found = {"step": self.step, "world": self.ranks.world} | self.scaler.facts()
        return found | (self.validator.facts() if self.validator is not None else {})

    def observe(self, representation: Tensor, labels: Tensor) -> None:
        """Update the monitors, on the first rank."""
        if self.ranks.first and self.config.settings.monitor_share > 0:
            self._observed |= self.monitors.observe(representation, labels)

    def take_observations(self) -> dict[str, float]:
        """Return what the monitors found since the last time."""
        found, self._observed = self._observed, {}
        return found

    def close(self) -> None:
        """Close files and threads."""
        self.log.close()
        self.feeder.close()
        if self.validator is not None:
            self.validator.data.close()

    def leave(self) -> None:
        """Leave the other ranks, at the end of a run that went well."""
        leave_ranks(self.ranks)


def open_session(config: Config, where: str, folder: Path, display: Display) -> Session:
    """Open data, network and state of a run, at its latest checkpoint if it has one."""
    check_config(config)
    ranks, device = _join(config)
    check_division(config, ranks)
    net = try_network(config, folder)
    records = open_records(config, where, folder, ranks)
    config = records.config
    model = open_run_model(config, folder, records.tokenizer, ranks, device, net)
    _tell_frozen(model.net, ranks, display)
    locked = ask_locked(config, model.net, records.source, ranks, device, display)
    taught = provide_taught(config, records.source, ranks, display)
    data = load_run_data(config, records, display, locked, taught)
    health = _open_health(config, folder, data, model)
    scaler = LossScaler(device, enabled=config.settings.precision == "fp16")
    scaler.restore(model.checkpoint.facts)
    per_epoch = data.order.per_epoch
    validator = open_validator(
        config, records, model.net, model.state, ranks, device, per_epoch, display
    )
    if validator is not None:
        validator.restore(model.checkpoint.facts)
    return Session(
        config=config,
        folder=folder,
        ranks=ranks,
        device=device,
        feeder=_open_feeder(config, folder, data, model.net, ranks, device, display),
        net=model.net,
        state=model.state,
        optimizer=model.optimizer,
        differentiator=_open_differentiator(config, model, ranks, device, health, scaler),
        scaler=scaler,
        health=health,
        monitors=_open_monitors(config, data, model, device),
        # Before the first checkpoint all is repeated, what was logged before the first step too.
        log=Log(folder, from_step=model.step or -1) if ranks.first else NoLog(),
        total=config.settings.steps or max(1, round(config.settings.epochs * per_epoch)),
        validator=validator,
        step=model.step,
        saved=model.step,
    )


def _tell_frozen(net: Network, ranks: Ranks, display: Display) -> None:
    """Say how much of the network trains, if not all of it does."""
    trains, total = net.count_parameters()
    if ranks.first and trains < total:
        display.say(f"{trains:,} of {total:,} parameters train; the others are frozen")


def _join(config: Config) -> tuple[Ranks, torch.device]:
    """Return this process's rank and the device that it computes on."""
    device = pick_device(config.settings.device)
    if config.settings.threads:
        torch.set_num_threads(config.settings.threads)
    ranks = join_ranks(device)
    return ranks, torch.device("cuda", ranks.local) if device.type == "cuda" else device


def _open_feeder(
    config: Config,
    folder: Path,
    data: RunData,
    net: Network,
    ranks: Ranks,
    device: torch.device,
    display: Display,
) -> Feeder:
    settings = config.settings
    views = config.objective.views() if data.locked is None else {}
    step = side_step(net["image"])
    maker = ViewMaker(views, settings.image_size, settings.mean, settings.std, step)
    context = ExtraContext(config, folder, data, net, maker, ranks, device, display)
    return Feeder(
        store=data.store,
        order=data.order,
        maker=maker,
        ranks=ranks,
        device=device,
        seed=settings.seed,
        classes=data.classes,
        extras=open_extras(context),
        kept=_kept_views(config),
    )


def _kept_views(config: Config) -> KeptViews | None:
    teaching = config.objective.find_extra(Teaching)
    if teaching is None:
        return None
    return KeptViews(teaching.settings.views, teaching.settings.seed)


def _open_health(config: Config, folder: Path, data: RunData, model: RunModel) -> HealthMonitor:
    # The doctor measures whole parameters; putting shards together for it would cost too much.
    watched = apply_sets(config, ["doctor=false"]) if model.is_sharded else config
    known = [row for row in read_log(folder) if row["step"] <= model.step]
    return HealthMonitor(watched, data.store, known)


def _open_monitors(
    config: Config, data: RunData, model: RunModel, device: torch.device
) -> Monitors:
    monitors = Monitors(len(data.classes), config.settings.monitor_share)
    monitors.restore(model.checkpoint.tensors.get(MONITORS, {}), device)
    return monitors


def _open_differentiator(
    config: Config,
    model: RunModel,
    ranks: Ranks,
    device: torch.device,
    health: HealthMonitor,
    scaler: LossScaler,
) -> Differentiator:
    settings = config.settings
    passes: nn.Module = model.net
    if settings.compile:
        passes = torch.compile(model.net)  # type: ignore[assignment]
    if ranks.world > 1 and not model.is_sharded:
        passes = wrap_ddp(passes, device)
    return Differentiator(
        objective=config.objective,
        net=model.net,
        passes=passes,
        state=model.state,
        ranks=ranks,
        autocast=NARROW.get(settings.precision),
        chunk=settings.chunk // ranks.world,
        loss_probe=health.loss_probe,
        scale=lambda: scaler.scale,
    )


def _write_bad(folder: Path, store: PixelStore) -> None:
    rows = [
        json.dumps({"file": store.source.records[record].key, "error": why})
        for record, why in sorted(store.bad.items())
    ]
    with contextlib.suppress(FileNotFoundError):
        (folder / BAD).unlink()
    if rows:
        (folder / BAD).write_text("\n".join(rows) + "\n", encoding="utf-8")
