"""From settings to a network: towers by name, the method's heads, BatchNorm in its mode."""

from __future__ import annotations

import torch
from torch import nn

from twinlens.errors import InputError
from twinlens.training.config import Config
from twinlens.training.data.tokens import RunTokenizer
from twinlens.training.encoders.token_tower import TokenTower, side_step
from twinlens.training.nn.batchnorm import convert_batchnorm
from twinlens.training.nn.network import Network
from twinlens.training.objective import Batch, BatchRows, Objective
from twinlens.training.runs.towers import open_towers, set_numbers
from twinlens.training.seeds import mix
from twinlens.training.views.masks import Masks


def build_network(
    config: Config, *, vocabulary: int = 0, pad_id: int = 0, released: bool = True
) -> Network:
    """Return the network of a run, initialised from its seed, or from released weights if asked.

    With `released` False their loading is skipped: a checkpoint will replace them.
    """
    settings, objective = config.settings, config.objective
    with torch.random.fork_rng():
        torch.manual_seed(mix(settings.seed, 3))
        towers = open_towers(config, vocabulary, pad_id, released=released)
        parts = towers.parts
        widths = {name: int(tower.width) for name, tower in parts.items()}  # type: ignore[arg-type]
        check_patches(config, parts["image"])
        check_sides(config, parts["image"])
        for tower in parts.values():
            set_norm_eps(tower, settings.norm_eps)
        freeze_patches(config, parts["image"])
        if isinstance(parts["image"], TokenTower):
            widths |= {"patch": parts["image"].patch, "inner": parts["image"].inner}
        parts |= objective.heads(widths | {"side": settings.image_size})
    net = Network(parts, Pass(objective))
    if released:
        set_numbers(net, towers)
    net.freeze([*objective.frozen(), *(name for name in settings.freeze.split(",") if name)])
    return net


def check_patches(config: Config, tower: nn.Module) -> None:
    """Refuse a method that masks patches if the tower has none."""
    if config.objective.find_extra(Masks) is not None and not isinstance(tower, TokenTower):
        raise InputError(
            f"{config.method} hides patches, and encoder {config.settings.encoder!r} has none;"
            " --set encoder=vit-tiny, or timm:vit_..., or open_clip:ViT-...",
            field="encoder",
        )


def set_norm_eps(tower: nn.Module, eps: float) -> None:
    """Set the eps of all LayerNorms of a tower, unless it is 0."""
    for module in tower.modules():
        if eps and isinstance(module, nn.LayerNorm):
            module.eps = eps


def freeze_patches(config: Config, tower: nn.Module) -> None:
    """Freeze the patch embedding if its rate is 0; refuse a rate without such a layer."""
    rate = config.settings.patch_rate
    if rate != 1 and not isinstance(tower, TokenTower):
        raise InputError(
            f"patch_rate is {rate}, and encoder {config.settings.encoder!r} has no layer that cuts"
            " patches; --set patch_rate=1, or an encoder such as vit-small/16",
            field="patch_rate",
        )
    if rate == 0 and isinstance(tower, TokenTower):
        tower.patch_layer().requires_grad_(False)


def check_sides(config: Config, tower: nn.Module) -> None:
    """Refuse views of sides that the image tower does not accept."""
    size, step = config.settings.image_size, side_step(tower)
    for name, crops in config.objective.views().items():
        side = crops.side(size, step)
        if isinstance(tower, TokenTower):
            _check_division(config, name, side, tower.patch)
        elif side != size:
            _try_side(config, name, side, tower)


def _check_division(config: Config, name: str, side: int, patch: int) -> None:
    if side % patch:
        low = max(1, side // patch) * patch
        raise InputError(
            f"encoder {config.settings.encoder!r} has patches of {patch} pixels, which do not"
            f" divide the {name} views' side of {side}; use a multiple of {patch}, e.g. {low}"
            f" or {low + patch}",
            field="image_size",
        )


@torch.no_grad()
def _try_side(config: Config, name: str, side: int, tower: nn.Module) -> None:
    """Run the tower on one image of the views' side: some of timm's accept one size only."""
    was_training, setting = tower.training, "crops" if name == "global" else name
    try:
        tower.eval()(torch.zeros(1, 3, side, side))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"encoder {config.settings.encoder!r} takes images of {config.settings.image_size}"
            f" pixels, and the {name} views have {side} ({' '.join(str(error).split())[:200]});"
            f" --set {setting}.size_ratio=1, or another encoder",
            field="encoder",
        ) from None
    tower.train(was_training)


def open_network(
    config: Config, tokenizer: RunTokenizer | None, *, released: bool = True
) -> Network:
    """Return the network of a run; its text tower, if any, has the tokenizer's vocabulary."""
    if tokenizer is None:
        return build_network(config, released=released)
    net = build_network(
        config, vocabulary=tokenizer.size, pad_id=tokenizer.spec.pad_id, released=released
    )
    tokenizer.cuts = bool(getattr(net["text"], "cuts", True))
    return net


class Pass:
    """The objective's forward pass: the student's rows, and the parameters that the loss uses."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def __call__(self, net: Network, batch: Batch) -> tuple[BatchRows, BatchRows]:
        """Run it."""
        return self.objective.student(net, batch), self.objective.shared(net)


def synchronise_norms(net: Network, config: Config, world: int) -> None:
    """Convert the network's BatchNorm layers to the mode of the run."""
    settings = config.settings
    convert_batchnorm(net, settings.batchnorm, splits=settings.splits, world=world)
