"""What a run learns: network, state and optimizer, new or from the latest checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from twinlens.errors import InputError
from twinlens.training.config import Config
from twinlens.training.data.tokens import RunTokenizer
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.distributed.sharding import is_sharded, shard_network
from twinlens.training.loop.optimizers import open_optimizer
from twinlens.training.nn.lora import add_adapters
from twinlens.training.nn.network import Network
from twinlens.training.nn.recomputation import recompute_blocks
from twinlens.training.runs.assembly import build_network, open_network, synchronise_norms
from twinlens.training.runs.checkpoints import (
    MONITORS,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    restore_optimizer,
)
from twinlens.training.runs.run import CHECKPOINTS
from twinlens.training.runs.starting import load_run_weights, towers_with_weights
from twinlens.training.runs.state import State


@dataclass(frozen=True)
class RunModel:
    """Network, state and optimizer, and their checkpoint."""

    net: Network
    state: State
    optimizer: torch.optim.Optimizer
    checkpoint: Checkpoint
    is_sharded: bool

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.checkpoint.facts["step"])


def try_network(config: Config, folder: Path) -> Network | None:
    """Return the network of a run before its data are opened, so that errors show at once.

    None if its size depends on the data, such as captions and classes: then it is built on trial.
    """
    if not config.objective.is_fitted():
        fitted = replace(config, objective=config.objective.fit(_TRIAL_CLASSES))
        build_network(fitted, released=False)
        return None
    if "text" in config.objective.paths:
        prepare_towers(config, build_network(config, vocabulary=_TRIAL_VOCABULARY, released=False))
        return None
    is_new = find_checkpoint(folder / CHECKPOINTS) is None
    return _build(config, is_new, lambda: build_network(config, released=is_new))


_TRIAL_VOCABULARY, _TRIAL_CLASSES = 4, 2


def _build(config: Config, released: bool, make: Callable[[], Network]) -> Network:
    """Build a network, with its initial weights if they are `released`."""
    net = _fetch(config, released, make)
    if released:
        load_run_weights(config, net)
    prepare_towers(config, net)
    return net


def prepare_towers(config: Config, net: Network) -> None:
    """Add LoRA adapters to pretrained towers, and set blocks to gradient checkpointing.

    Both are for training only: the served encoder has neither.
    """
    settings = config.settings
    adapted = towers_with_weights(config) if settings.lora else ()
    for part in adapted:
        if any(parameter.requires_grad for parameter in net[part].parameters()):
            add_adapters(part, net[part], settings.lora, settings.lora_alpha, settings.seed)
    if settings.lora and not any("up" in name.split(".") for name, _ in net.named_parameters()):
        raise InputError(
            f"lora is {settings.lora}, and no tower that trains started from weights, so there is"
            " nothing to adapt; --set init=SOURCE, or lora=0",
            field="lora",
        )
    for part in ("image", "text"):
        if settings.gradient_checkpointing and part in net and not _stands_still(net[part]):
            recompute_blocks(part, net[part])


def _stands_still(tower: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in tower.parameters())


def _fetch(config: Config, released: bool, make: Callable[[], Network]) -> Network:
    """Build a network; if weights from a hub are missing, say what to do."""
    name = config.settings.encoder
    tag = name.partition("/")[2] if name.startswith("open_clip:") else ""
    if not released or not (config.settings.pretrained or (tag and not Path(tag).is_file())):
        return make()
    from twinlens.training.export.hub import fetch  # imports the export; rarely needed

    remedy = (
        "run once with a network, which fills the hub's cache, or start from a file"
        " (timm:NAME/weights.safetensors, open_clip:ARCH/FILE) or with --set pretrained=false"
    )
    return fetch(f"the released weights of encoder {name!r}", remedy, make)


def open_run_model(
    config: Config,
    folder: Path,
    tokenizer: RunTokenizer | None,
    ranks: Ranks,
    device: torch.device,
    net: Network | None = None,
) -> RunModel:
    """Build network, state and optimizer, and restore the latest checkpoint if there is one.

    `net` is the network if `try_network` has built it.
    """
    found = find_checkpoint(folder / CHECKPOINTS)
    checkpoint = load_checkpoint(found) if found else _first_checkpoint()
    if net is None:
        is_new = found is None
        net = _build(config, is_new, lambda: open_network(config, tokenizer, released=is_new))
    synchronise_norms(net, config, ranks.world)
    net.train()  # frozen parts stay in evaluation mode
    # Convolutions are up to half as fast again in channels-last layout, on CPU and GPU.
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = State(config.objective.state(), net, config.settings.seed).to(device)
    if found:
        net.parts.load_state_dict(checkpoint.tensors[WEIGHTS])
        state.load_state_dict(checkpoint.tensors[STATE])
    sharded = is_sharded(config.settings, ranks)
    if sharded:
        shard_network(net, device, ranks)
    optimizer = open_optimizer(net, config.objective.groups(), config.settings)
    restore_optimizer(optimizer, net.parts, checkpoint.tensors[OPTIMIZER])
    return RunModel(net, state, optimizer, checkpoint, sharded)


def _first_checkpoint() -> Checkpoint:
    return Checkpoint({OPTIMIZER: {}, MONITORS: {}}, {"step": 0})
