"""Recipes of DINOv2."""

from __future__ import annotations

import dataclasses

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.dinov2 import DINOv2
from twinlens.training.recipes.published_views import BYOL_PAIR, SMALL_CROPS
from twinlens.training.schedules import Cosine
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ViT of 4-pixel patches, 2 + 4 crops.

    twinlens train dinov2 DATA --out RUN
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
    objective = DINOv2(prototypes=512, hidden=256, frozen_epochs=0.1, crops=crops, local=local)
    return Config("dinov2", objective, settings)


def vit() -> Config:
    """ViT-S/16, 2 x 224 + 8 x 96 pixels: Oquab et al. 2023, its ssl_default_config.

    That trains a ViT-L for 125,000 steps at a batch of 2,048; the encoder alone is another.

    Hardware of the source: 32 A100 of 80 GB, a day, for the ViT-L (README).

    twinlens train dinov2 DATA --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-small/16",
        image_size=224,
        steps=125000,
        batch=2048,
        optimizer="adamw",
        lr=2e-3,
        lr_scaling="sqrt",
        lr_floor=1.8e-4,
        warmup=12500,
        weight_decay=0.04,
        weight_decay_end=0.4,
        layer_decay=0.9,
        patch_rate=0.2,
        clip=3.0,
        drop_path=0.3,
        drop_path_even=True,
        layer_scale=1e-5,
        norm_eps=1e-6,
        precision="bf16",
    )
    objective = DINOv2(
        prototypes=65536,
        hidden=2048,
        narrow=256,
        separate=False,
        frozen_epochs=2.0,
        follow=Cosine(0.992, 1.0),
        crops=dataclasses.replace(BYOL_PAIR, scale_min=0.32),
        local=dataclasses.replace(SMALL_CROPS, count=8, scale_max=0.32),
    )
    return Config("dinov2", objective, settings)
