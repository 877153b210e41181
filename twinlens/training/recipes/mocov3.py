"""Recipes of MoCo v3."""

from __future__ import annotations

import dataclasses

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.mocov3 import MoCoV3
from twinlens.training.recipes.published_views import BYOL_PAIR
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ResNet, ten epochs.

    twinlens train mocov3 DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny", epochs=10, lr=0.3, warmup=10, weight_decay=1e-4, clip=5.0
    )
    crops = Crops(blur=(0.0,), solarize=(0.0, 0.2))
    return Config("mocov3", MoCoV3(crops=crops), settings)


def vit() -> Config:
    """ViT-S/16 at 224 pixels: Chen et al. 2021, section 4; CONFIG.md of its release.

    The layer that cuts patches is frozen; the projector has three layers, and both heads end in a
    BatchNorm without scale.

    Hardware of the source: 8 V100 of 32 GB (CONFIG.md); hours not stated.

    twinlens train mocov3 DATA --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-small/16",
        image_size=224,
        epochs=300,
        batch=1024,
        optimizer="adamw",
        lr=1.5e-4,
        warmup=50040,
        weight_decay=0.1,
        patch_rate=0.0,
        norm_eps=1e-6,
        precision="bf16",
    )
    objective = MoCoV3(temperature=0.2, layers=3, predictor_norm=True, hidden=4096, crops=BYOL_PAIR)
    return Config("mocov3", objective, settings)


def resnet50() -> Config:
    """ResNet-50 at 224 pixels, batch 4096, 100 epochs, T 1: the same sources.

    Hardware of the source: 16 V100 of 32 GB (CONFIG.md); hours not stated.

    twinlens train mocov3 DATA --recipe resnet50 --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=100,
        batch=4096,
        optimizer="lars",
        lr=0.6,
        warmup=3120,
        weight_decay=1e-6,
        precision="bf16",
    )
    crops = dataclasses.replace(BYOL_PAIR, scale_min=0.2)
    return Config("mocov3", MoCoV3(temperature=1.0, hidden=4096, crops=crops), settings)


def cifar10() -> Config:
    """ResNet-18, 200 epochs, batch 256, LARS.

    twinlens train mocov3 cifar10/train.zip --recipe cifar10 --out RUN
    """
    settings = TrainingSettings(
        stored_size=32,
        epochs=200,
        batch=256,
        optimizer="lars",
        trust=0.02,
        lr=0.3,
        warmup=1950,
        weight_decay=1e-6,
        precision="bf16",
    )
    crops = Crops(blur=(0.0,), solarize=(0.0, 0.2))
    return Config("mocov3", MoCoV3(hidden=4096, crops=crops), settings)
