"""Recipes of Barlow Twins."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.barlow import BarlowTwins
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on whatever machine there is: a tiny ResNet, ten epochs.

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
