"""Learning rates by layer: lower in early layers, and a separate rate for the patch embedding.

With `layer_decay` d and L blocks, block i (from 0) has the share d^(L - i) of the learning rate,
layers before the blocks d^(L + 1), layers after them 1, as in BEiT and DINOv2. What must stay true:
heads and loss parameters keep the full rate.
"""

from __future__ import annotations

from torch import nn

from twinlens.errors import InputError
from twinlens.training.config import TrainingSettings
from twinlens.training.encoders.blocks import BLOCK
from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.nn.network import Network

TOWERS = ("image", "text")
STAND_IN = "mask_token"  # position of the patch embedding, before the blocks of the image tower
EARLY = {
    *("embed", "token", "position", "stem"),  # ours
    *("patch_embed", "cls_token", "dist_token", "reg_token", "pos_embed", "norm_pre"),  # timm's
    *("conv1", "class_embedding", "positional_embedding", "ln_pre"),  # open_clip's
}


def rate_shares(net: Network, settings: TrainingSettings) -> dict[str, float]:
    """Return by name the parameters whose share of the learning rate is not 1."""
    shares: dict[str, float] = {}
    if settings.layer_decay != 1:
        for part in TOWERS:
            if part in net:
                shares |= _decay(part, net[part], settings.layer_decay)
        if STAND_IN in net:
            first = min(value for name, value in shares.items() if name.startswith("image."))
            shares |= {f"{STAND_IN}.{name}": first for name, _ in net[STAND_IN].named_parameters()}
    if settings.patch_rate != 1:
        for name in _patch_parameters(net["image"]):
            full = f"image.{name}"
            shares[full] = shares.get(full, 1.0) * settings.patch_rate
    return {name: share for name, share in shares.items() if share != 1}


def _decay(part: str, tower: nn.Module, decay: float) -> dict[str, float]:
    names = [name for name, _ in tower.named_parameters()]
    places = {name: int(found[1]) for name in names if (found := BLOCK.search(name))}
    if not places:
        raise InputError(
            f"layer_decay is {decay}, but the {part} tower has no blocks one after the other;"
            " --set layer_decay=1, or a vision transformer or ResNet of ours, timm or open_clip",
            field="layer_decay",
        )
    after = 2 + max(places.values())
    layer = dict.fromkeys(names, after)
    layer |= {name: 0 for name in names if EARLY & set(name.split("."))}
    layer |= {name: 1 + place for name, place in places.items()}
    return {f"{part}.{name}": decay ** (after - layer[name]) for name in names}


def _patch_parameters(tower: nn.Module) -> list[str]:
    if not isinstance(tower, TokenTower):
        return []
    own = {id(parameter) for parameter in tower.patch_layer().parameters()}
    return [name for name, parameter in tower.named_parameters() if id(parameter) in own]
