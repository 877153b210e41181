"""Opens a run: data, network, state and everything that watches it, at its latest checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from twinlens.errors import InputError
from twinlens.training.config import Config, apply_sets, get_value, known_keys
from twinlens.training.data.feeder import Feeder, KeptViews
from twinlens.training.devices import is_accelerator, pick_device
from twinlens.training.distributed.ranks import Ranks, join_ranks, wrap_ddp
from twinlens.training.doctor.health_monitor import HealthMonitor
from twinlens.training.encoders.token_tower import side_step
from twinlens.training.loop.capture import CapturedDifferentiator, GraphRecorder
from twinlens.training.loop.extras import ExtraContext, open_extras
from twinlens.training.loop.gradients import Differentiator
from twinlens.training.loop.locked import ask_locked
from twinlens.training.loop.monitors import Monitors
from twinlens.training.loop.reporter import Reporter
from twinlens.training.loop.run_data import (
    RunData,
    check_division,
    load_run_data,
    open_records,
)
from twinlens.training.loop.run_model import RunModel, open_run_model, try_network
from twinlens.training.loop.scaling import LossScaler
from twinlens.training.loop.session import Session
from twinlens.training.loop.teaching import provide_taught
from twinlens.training.loop.validation import open_validator
from twinlens.training.nn.network import Network
from twinlens.training.nn.teachers import Teaching
from twinlens.training.progress import Display
from twinlens.training.ranges import check_config
from twinlens.training.runs.checkpoints import (
    MONITORS,
)
from twinlens.training.runs.logs import Log, NoLog, read_log
from twinlens.training.runs.trackers import Trackers, open_trackers
from twinlens.training.views.device_views import DeviceViewMaker
from twinlens.training.views.maker import Maker, ViewMaker

NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16}


def open_session(config: Config, where: str, folder: Path, display: Display) -> Session:
    """Open data, network and state of a run, at its latest checkpoint if it has one."""
    check_config(config)
    ranks, device = _join(config)
    check_division(config, ranks)
    trackers = open_trackers(config.settings.trackers if ranks.first else "", display.say)
    net = try_network(config, folder)
    records = open_records(config, where, folder, ranks)
    config = records.config
    model = open_run_model(config, folder, records.tokenizer, ranks, device, net)
    _tell_frozen(model.net, ranks, display)
    locked = ask_locked(config, model.net, records.source, ranks, device, display)
    taught = provide_taught(config, records.source, ranks, display)
    data = load_run_data(config, records, display, ranks, locked, taught)
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
        reporter=Reporter(device),
        monitors=_open_monitors(config, data, model, device),
        log=_open_log(config, folder, model.step, trackers) if ranks.first else NoLog(),
        total=config.settings.steps or max(1, round(config.settings.epochs * per_epoch)),
        validator=validator,
        step=model.step,
        saved=model.step,
    )


def _open_log(config: Config, folder: Path, step: int, trackers: Trackers) -> Log:
    """Open the log and start the run in its trackers."""
    settings = {key: get_value(config.settings, key) for key in known_keys(config.settings)}
    own = {key: get_value(config.objective, key) for key in known_keys(config.objective)}
    # Before the first checkpoint everything is repeated, including what was logged before.
    from_step = step or -1
    trackers.begin(folder, {"method": config.method, **settings, **own}, from_step)
    return Log(folder, from_step=from_step, trackers=trackers)


def _tell_frozen(net: Network, ranks: Ranks, display: Display) -> None:
    """Report how much of the network trains, if not all of it."""
    trains, total = net.count_parameters()
    if ranks.first and trains < total:
        display.say(f"{trains:,} of {total:,} parameters train; the others are frozen")


def _join(config: Config) -> tuple[Ranks, torch.device]:
    """Return this process's rank and the device that it computes on."""
    device = pick_device(config.settings.device)
    _check_capture(config, device)
    if config.settings.threads:
        torch.set_num_threads(config.settings.threads)
    # Shapes repeat from step to step, so searching for the fastest convolution pays.
    torch.backends.cudnn.benchmark = device.type == "cuda"
    ranks = join_ranks(device)
    return ranks, torch.device("cuda", ranks.local) if device.type == "cuda" else device


def _check_capture(config: Config, device: torch.device) -> None:
    """Refuse to record steps without a GPU, or with several ranks."""
    if config.settings.capture and device.type != "cuda":
        raise InputError(
            f"capture is true, and the device is {device.type}; it records steps of a GPU:"
            " --set capture=false",
            field="capture",
        )
    if config.settings.capture and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "capture is true, and there are several ranks, whose communication it does not record;"
            " --set capture=false",
            field="capture",
        )


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
    plain = ViewMaker(views, settings.image_size, settings.mean, settings.std, step)
    maker: Maker = plain
    if is_accelerator(device):
        maker = DeviceViewMaker(plain, device, compiled=settings.compile)
    context = ExtraContext(config, folder, data, net, plain, ranks, device, display)
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
    # The doctor measures whole parameters; gathering shards for it would cost too much.
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
) -> Differentiator | CapturedDifferentiator:
    settings = config.settings
    passes: nn.Module = model.net
    if settings.compile:
        passes = torch.compile(model.net)  # type: ignore[assignment]
    if ranks.world > 1 and not model.is_sharded:
        passes = wrap_ddp(passes, device)
    plain = Differentiator(
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
    return CapturedDifferentiator(plain, GraphRecorder()) if settings.capture else plain
