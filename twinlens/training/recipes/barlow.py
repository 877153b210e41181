"""Recipes of Barlow Twins."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.barlow import BarlowTwins
from twinlens.training.recipes.published_views import BYOL_PAIR
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ResNet, ten epochs.

    twinlens train barlow DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny",
        epochs=10,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=10,
        weight_decay=1e-4,
        clip=50.0,
    )
    crops = Crops(blur=(0.0,), solarize=(0.0, 0.2))
    return Config("barlow", BarlowTwins(crops=crops), settings)


def cifar10() -> Config:
    """ResNet-18, 200 epochs, batch 256, LARS.

    twinlens train barlow cifar10/train.zip --recipe cifar10 --out RUN
    """
    settings = TrainingSettings(
        stored_size=32,
        epochs=200,
        batch=256,
        optimizer="lars",
        trust=0.02,
        lr=0.3,
        warmup=1950,
        weight_decay=1e-4,
        precision="bf16",
    )
    crops = Crops(blur=(0.0,), solarize=(0.0, 0.2))
    objective = BarlowTwins(hidden=2048, dim=2048, scale=0.1, crops=crops)
    return Config("barlow", objective, settings)


def imagenet() -> Config:
    """ResNet-50 at 224 pixels, batch 2048: Zbontar et al. 2021, section 2.2; its release.

    Biases and norms learn at 0.0048 there, 0.024 of the weights' rate: so does `scale` under LARS.

    Hardware of the source: 16 V100, 7 days (README).

    twinlens train barlow DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=1000,
        batch=2048,
        optimizer="lars",
        lr=0.2,
        lr_floor=0.001,
        warmup=6250,
        weight_decay=1e-6,
        precision="bf16",
    )
    objective = BarlowTwins(hidden=8192, dim=8192, scale=0.024, crops=BYOL_PAIR)
    return Config("barlow", objective, settings)
