"""Recipes of iBOT."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.ibot import IBOT
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on whatever machine there is: a tiny ViT of 4-pixel patches, 2 + 4 crops.

    twinlens train ibot DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-nano/4",
        epochs=10,
        batch=64,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=20,
        weight_decay=0.04,
        weight_decay_end=0.2,
        clip=3.0,
    )
    crops = Crops(scale_min=0.4, blur=(0.0,), solarize=(0.0, 0.2))
    local = Crops(4, size_ratio=0.5, scale_min=0.1, scale_max=0.4, blur=(0.0,))
    objective = IBOT(prototypes=512, hidden=256, frozen_epochs=0.1, crops=crops, local=local)
    return Config("ibot", objective, settings)


def vit() -> Config:
    """ViT-S/16 at 224 pixels, in the manner of the paper.

    twinlens train ibot DATA --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-small/16",
        image_size=224,
        epochs=100,
        batch=1024,
        optimizer="adamw",
        lr=5e-4,
        lr_scaling="linear",
        lr_floor=2e-3,
        warmup=12500,
        weight_decay=0.04,
        weight_decay_end=0.4,
        clip=3.0,
        precision="bf16",
    )
    return Config("ibot", IBOT(prototypes=8192, hidden=2048, narrow=256), settings)
