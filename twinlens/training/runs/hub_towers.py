"""Towers of a run whose encoder is `hf:...`, new or with the weights of its source."""

from __future__ import annotations

import torch
from torch import nn

from twinlens.errors import InputError
from twinlens.training.config import TrainingSettings
from twinlens.training.encoders.blocks import BranchOptions
from twinlens.training.encoders.hub_model import (
    HubArchitecture,
    as_hub_text,
    as_hub_tower,
    build_image,
    build_text,
    parse_architecture,
)
from twinlens.training.encoders.hub_weights import load_image, load_text
from twinlens.training.encoders.open_clip_pair import OpenClipText
from twinlens.training.runs.hub_source import read_hub_weights


def open_hub_image(
    settings: TrainingSettings, branches: BranchOptions, *, released: bool
) -> nn.Module:
    """Return the image tower of a run that starts from a transformers model."""
    shape = _shape_of(settings)
    model = build_image(settings.encoder, shape, branches)
    if released:
        load_image(model, shape, read_hub_weights(settings.encoder), settings.encoder)
    return as_hub_tower(model, shape)


def open_hub_text(
    settings: TrainingSettings, *, released: bool
) -> tuple[OpenClipText, float | None, float | None]:
    """Return the text tower, with the scale and bias of its weights."""
    shape = _shape_of(settings)
    model = build_text(shape)
    if not released:
        return as_hub_text(model, shape), None, None
    weights = read_hub_weights(settings.encoder)
    load_text(model, shape, weights, settings.encoder)
    scale, bias = weights["logit_scale"], weights.get("logit_bias")
    found = None if bias is None else float(bias.flatten()[0])
    return as_hub_text(model, shape), float(torch.exp(scale.flatten()[0])), found


def _shape_of(settings: TrainingSettings) -> HubArchitecture:
    if not settings.architecture:
        raise InputError(
            f"encoder {settings.encoder!r} is given without its settings; --set"
            f" init={settings.encoder} in its place",
            field="encoder",
        )
    return parse_architecture(settings.architecture)
