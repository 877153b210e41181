"""The towers of a run, new or with the weights of its `init`.

What must stay true: a network can be built without the weights of `init`, so that a checkpoint is
readable after their file is gone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from twinlens.errors import InputError
from twinlens.training.config import Config, TrainingSettings
from twinlens.training.data.tokens import OWN_TEXT
from twinlens.training.encoders.blocks import BranchOptions, branch_open_clip
from twinlens.training.encoders.catalogue import as_tower, open_image_tower
from twinlens.training.encoders.open_clip_pair import OpenClipText, open_clip_pair
from twinlens.training.encoders.text import TextTransformer
from twinlens.training.nn.network import Network
from twinlens.training.runs.hub_source import PREFIX as HUB
from twinlens.training.runs.hub_towers import open_hub_image, open_hub_text

KINDS = ("open_clip:", "timm:", HUB)


@dataclass(frozen=True)
class Towers:
    """Towers by name, with the scale and bias of their weights."""

    parts: dict[str, nn.Module]
    scale: float | None = None
    bias: float | None = None


def starts_from_run(settings: TrainingSettings) -> bool:
    """Tell whether the initial weights are those of another run."""
    return bool(settings.init) and not settings.init.startswith(KINDS)


def open_towers(config: Config, vocabulary: int, pad_id: int, *, released: bool) -> Towers:
    """Return the towers that the settings name; `released` loads weights that a name implies."""
    settings = config.settings
    released = released and not starts_from_run(settings)
    _check_init(settings)
    if "text" in config.objective.paths and settings.text_encoder != OWN_TEXT:
        return _open_pair(settings, vocabulary, released)
    image = _open_image(settings, released)
    if "text" not in config.objective.paths:
        return Towers({"image": image})
    text = TextTransformer(
        vocabulary,
        settings.context,
        settings.text_width,
        settings.text_depth,
        settings.text_heads,
        pad_id,
    )
    return Towers({"image": image, "text": text})


def _open_image(settings: TrainingSettings, released: bool) -> nn.Module:
    if settings.encoder.startswith(HUB):
        return open_hub_image(settings, _branches(settings), released=released)
    return open_image_tower(
        settings.encoder,
        settings.image_size,
        pretrained=settings.pretrained and released,
        tagged=released,
        branches=_branches(settings),
    )


def _branches(settings: TrainingSettings) -> BranchOptions:
    return BranchOptions(settings.drop_path, settings.drop_path_even, settings.layer_scale)


def set_numbers(net: Network, towers: Towers) -> None:
    """Initialise the scale and bias of the loss, if it has them, from those of the weights."""
    if towers.scale is not None and "scale" in net:
        _fill(net["scale"], math.log(towers.scale))
    if towers.bias is not None and "bias" in net:
        _fill(net["bias"], towers.bias)


@torch.no_grad()
def _fill(part: nn.Module, value: float) -> None:
    part.get_parameter("value").fill_(value)


def _check_init(settings: TrainingSettings) -> None:
    """Refuse an `init` whose settings were not applied."""
    for kind in KINDS:
        if settings.init.startswith(kind) and settings.encoder != settings.init:
            raise InputError(
                f"init is {settings.init!r}, and encoder {settings.encoder!r}; the encoder comes"
                " with init, so leave encoder out, or leave init out",
                field="encoder",
            )


def _open_pair(settings: TrainingSettings, vocabulary: int, released: bool) -> Towers:
    name = settings.text_encoder
    if settings.encoder != name:
        raise InputError(
            f"text_encoder is {name!r} and encoder {settings.encoder!r}; both towers come from one"
            f" model: --set init={name}, or --set text_encoder={OWN_TEXT}",
            field="text_encoder",
        )
    if name.startswith(HUB):
        return _open_hub_pair(settings, vocabulary, released)
    found = open_clip_pair(name.removeprefix("open_clip:"), settings.image_size, released)
    _check_texts(settings, found.text, vocabulary)
    branch_open_clip(name, found.visual, _branches(settings))
    image = as_tower(found.visual, settings.image_size)
    loaded = (found.scale, found.bias) if released else (None, None)
    return Towers({"image": image, "text": found.text}, *loaded)


def _open_hub_pair(settings: TrainingSettings, vocabulary: int, released: bool) -> Towers:
    image = open_hub_image(settings, _branches(settings), released=released)
    text, scale, bias = open_hub_text(settings, released=released)
    _check_texts(settings, text, vocabulary)
    return Towers({"image": image, "text": text}, scale, bias)


def _check_texts(settings: TrainingSettings, text: OpenClipText, vocabulary: int) -> None:
    """Refuse texts that are longer than the text tower allows, or have a larger vocabulary."""
    known = text.context
    longer = settings.context > known
    if longer or (settings.context < known and not text.cuts):
        raise InputError(
            f"context is {settings.context}, and the text tower of {settings.text_encoder!r} takes"
            f" {'at most' if longer else 'exactly'} {known} tokens; --set context={known}",
            field="context",
        )
    # CLIP's tokenizer counts one id more than it produces: the padding of our own towers.
    if vocabulary > text.vocabulary + 1:
        raise InputError(
            f"the tokenizer has {vocabulary} ids, and the text tower of {settings.text_encoder!r}"
            f" knows {text.vocabulary}; leave tokenizer as init sets it",
            field="tokenizer",
        )
