"""Recipes of iBOT."""

from __future__ import annotations

import dataclasses

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.ibot import IBOT
from twinlens.training.recipes.published_views import BYOL_PAIR, SMALL_CROPS
from twinlens.training.schedules import Linear
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ViT of 4-pixel patches, 2 + 4 crops.

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
    """ViT-S/16, 2 x 224 + 10 x 96 pixels: Zhou et al. 2021, section 3.3; its README.

    One head for crops and patches, 8,192 prototypes.

    Hardware of the source: 16 GPUs (README); hours not stated.

    twinlens train ibot DATA --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-small/16",
        image_size=224,
        epochs=800,
        batch=1024,
        optimizer="adamw",
        lr=5e-4,
        lr_floor=5e-4,
        warmup=12510,
        weight_decay=0.04,
        weight_decay_end=0.4,
        clip=3.0,
        drop_path=0.1,
        norm_eps=1e-6,
        precision="bf16",
    )
    warming = Linear(0.04, 0.07, 30 / 800)
    objective = IBOT(
        prototypes=8192,
        hidden=2048,
        narrow=256,
        teacher_temperature=warming,
        patch_temperature=warming,
        crops=dataclasses.replace(BYOL_PAIR, scale_min=0.25),
        local=dataclasses.replace(SMALL_CROPS, count=10, scale_max=0.25),
    )
    return Config("ibot", objective, settings)
