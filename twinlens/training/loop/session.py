"""All that a run holds while it trains, and how it is opened, resumed and saved."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import InputError
from twinlens.training.config import Config, apply_sets
from twinlens.training.data.feeder import Feeder
from twinlens.training.data.needs import check_needs
from twinlens.training.data.negatives import Negatives
from twinlens.training.data.order import SampleOrder
from twinlens.training.data.pixels import PixelStore, square_spec
from twinlens.training.data.records import DataSource, fingerprint
from twinlens.training.data.sources import open_source
from twinlens.training.data.tokens import RunTokenizer, provide_tokenizer
from twinlens.training.devices import pick_device
from twinlens.training.distributed.ranks import Ranks, join_ranks, leave_ranks, share_gradients
from twinlens.training.distributed.sharding import is_sharded, shard_network, whole
from twinlens.training.doctor.health_monitor import HealthMonitor
from twinlens.training.encoders.vit import VisionTransformer
from twinlens.training.loop.gradients import Differentiator
from twinlens.training.loop.monitors import Monitors
from twinlens.training.loop.optimizers import open_optimizer
from twinlens.training.nn.network import Network
from twinlens.training.nn.visual_tokenizer import (
    FILE,
    TRAIN,
    provide_visual_tokenizer,
    read_visual_tokenizer,
)
from twinlens.training.progress import Display
from twinlens.training.runs.assembly import mask_drawer, open_network, synchronise_norms
from twinlens.training.runs.checkpoints import (
    MONITORS,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from twinlens.training.runs.logs import Log, NoLog, read_log
from twinlens.training.runs.run import BAD, CHECKPOINTS, prepare_folder
from twinlens.training.runs.state import State
from twinlens.training.views.maker import ViewMaker

SAVES_PER_RUN = 10


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
    monitors: Monitors
    health: HealthMonitor
    log: Log | NoLog
    total: int
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
        """Write a checkpoint of this moment; the first rank does, all put it together."""
        tensors = {
            WEIGHTS: {name: whole(value) for name, value in self.net.parts.state_dict().items()},
            STATE: self.state.state_dict(),
            OPTIMIZER: optimizer_tensors(self.optimizer, self.net.parts),
            MONITORS: self.monitors.state(),
        }
        if self.ranks.first:
            found = Checkpoint(tensors, {"step": self.step, "world": self.ranks.world})
            save_checkpoint(self.folder / CHECKPOINTS, found, keep=self.config.settings.keep)
            _write_bad(self.folder, self.feeder.store)
        self.saved = self.step
        self.ranks.wait()

    def observe(self, representation: Tensor, labels: Tensor) -> None:
        """Let the monitors look, on the first rank."""
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

    def leave(self) -> None:
        """Leave the other ranks, at the end of a run that went well."""
        leave_ranks(self.ranks)


def open_session(config: Config, where: str, folder: Path, display: Display) -> Session:
    """Open data, network and state of a run, at its latest checkpoint if it has one."""
    settings = config.settings
    device = pick_device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    ranks = join_ranks(device)
    if device.type == "cuda":
        device = torch.device("cuda", ranks.local)
    source = open_source(where)
    classes = check_needs(source, config)
    _prepare(config, where, folder, source, classes, ranks)
    store = _load_pixels(source, config, display)
    order = SampleOrder(len(store), settings.batch, settings.seed)
    _check_division(config, ranks)
    tokenizer = RunTokenizer(settings, folder) if _has_text(config) else None
    fresh = find_checkpoint(folder / CHECKPOINTS) is None
    net = open_network(config, tokenizer, released=fresh)
    synchronise_norms(net, config, ranks.world)
    # Convolutions are up to half as fast again with channels last in memory, on CPU and GPU.
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = State(config.objective.state(), net, settings.seed).to(device)
    before = _last_checkpoint(folder, net, state)
    sharded = is_sharded(settings, ranks)
    if sharded:
        shard_network(net, device, ranks)
    optimizer = open_optimizer(net, config.objective.groups(), settings)
    restore_optimizer(optimizer, net.parts, before.tensors[OPTIMIZER])
    step = int(before.facts["step"])
    side = settings.image_size
    maker = ViewMaker(config.objective.views(), side, settings.mean, settings.std)
    batch_text = tokenizer.batch if tokenizer else None
    mask = mask_drawer(config, net)
    feeder = Feeder(store, order, maker, ranks, device, settings.seed, classes, batch_text, mask)
    feeder.code = _visual_codes(config, net, folder, feeder, display)
    if count := config.objective.negatives():
        feeder.negatives = Negatives(source.records, count)
    known = [row for row in read_log(folder) if row["step"] <= step]
    # The doctor measures whole parameters; putting shards together for it would cost too much.
    watched = apply_sets(config, ["doctor=false"]) if sharded else config
    health = HealthMonitor(watched, store, known)
    total = settings.steps or max(1, round(settings.epochs * order.per_epoch))
    monitors = Monitors(len(classes), settings.monitor_share)
    monitors.restore(before.tensors.get(MONITORS, {}), device)
    return Session(
        config=config,
        folder=folder,
        ranks=ranks,
        device=device,
        feeder=feeder,
        net=net,
        state=state,
        optimizer=optimizer,
        differentiator=_differentiator(config, net, state, ranks, device, health),
        health=health,
        monitors=monitors,
        log=Log(folder, from_step=step) if ranks.first else NoLog(),
        total=total,
        step=step,
        saved=step,
    )


def _prepare(
    config: Config, where: str, folder: Path, source: DataSource, classes: list[str], ranks: Ranks
) -> None:
    """Write the run's cards and tokenizer on the first rank."""
    card: Mapping[str, Any] = {
        "where": where,
        "count": len(source.records),
        "fingerprint": fingerprint(source.records),
        "classes": classes,
    }
    if ranks.first:
        prepare_folder(folder, config, card)
        if _has_text(config):
            captions = (text for record in source.records for text in record.captions)
            provide_tokenizer(config.settings, captions, folder)
    ranks.wait()


def _load_pixels(source: DataSource, config: Config, display: Display) -> PixelStore:
    settings = config.settings
    side = settings.stored_size or round(settings.image_size * 1.15)
    decode = Preprocessor(square_spec(side), fast=True)
    store = PixelStore(source, decode, memory_bytes=settings.memory_gb * 1e9)
    count = len(source.records)
    store.load(lambda done: display.advance("decoding", done, count, {}))
    if store.bad:
        display.say(
            f"{len(store.bad)} of {count} images cannot be read and are left out; see {BAD}"
        )
    return store


def _visual_codes(
    config: Config, net: Network, folder: Path, feeder: Feeder, display: Display
) -> Callable[[Tensor], Tensor] | None:
    """Return what codes views, after the first rank has provided the tokenizer's file."""
    codes, tower = config.objective.codes(), net["image"]
    if codes is None or not isinstance(tower, VisionTransformer):
        return None
    if feeder.ranks.first:
        if codes.tokenizer == TRAIN and not (folder / FILE).is_file():
            display.say(f"training a visual tokenizer of {codes.size} codes first")
        provide_visual_tokenizer(
            codes, tower.patch, folder, config.settings.seed, feeder.samples, feeder.device
        )
    feeder.ranks.wait()
    tokenizer = read_visual_tokenizer(folder / FILE, tower.patch, codes.size)
    return tokenizer.to(feeder.device).codes


def _check_division(config: Config, ranks: Ranks) -> None:
    settings = config.settings
    parts = ranks.world * settings.accumulate
    if settings.batch % parts:
        raise InputError(
            f"batch {settings.batch} does not divide into {ranks.world} ranks x"
            f" {settings.accumulate} micro-batches",
            field="batch",
        )


def _has_text(config: Config) -> bool:
    return "text" in config.objective.paths


def _last_checkpoint(folder: Path, net: Network, state: State) -> Checkpoint:
    """Load network and state from the latest checkpoint and return it; an empty one at first."""
    found = find_checkpoint(folder / CHECKPOINTS)
    if found is None:
        return Checkpoint({OPTIMIZER: {}, MONITORS: {}}, {"step": 0})
    checkpoint = load_checkpoint(found)
    net.parts.load_state_dict(checkpoint.tensors[WEIGHTS])
    state.load_state_dict(checkpoint.tensors[STATE])
    return checkpoint


def _differentiator(
    config: Config,
    net: Network,
    state: State,
    ranks: Ranks,
    device: torch.device,
    health: HealthMonitor,
) -> Differentiator:
    settings = config.settings
    passes: nn.Module = net
    if settings.compile:
        passes = torch.compile(net)  # type: ignore[assignment]
    if ranks.world > 1 and not is_sharded(settings, ranks):
        passes = share_gradients(passes, device)
    precision = torch.bfloat16 if settings.precision == "bf16" else None
    chunk, loss_probe = settings.chunk // ranks.world, health.loss_probe
    return Differentiator(config.objective, net, passes, state, ranks, precision, chunk, loss_probe)


def _write_bad(folder: Path, store: PixelStore) -> None:
    rows = [
        json.dumps({"file": store.source.records[record].key, "error": why})
        for record, why in sorted(store.bad.items())
    ]
    with contextlib.suppress(FileNotFoundError):
        (folder / BAD).unlink()
    if rows:
        (folder / BAD).write_text("\n".join(rows) + "\n", encoding="utf-8")
