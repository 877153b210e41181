"""Recipes of SupCon."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.supcon import SupCon
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small labelled images on whatever machine there is: a tiny ResNet, ten epochs.

    twinlens train supcon DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny", epochs=10, lr=0.3, warmup=10, weight_decay=1e-4, clip=5.0
    )
    return Config("supcon", SupCon(crops=Crops(blur=(0.0,))), settings)


def cifar10() -> Config:
    """ResNet-18, 200 epochs, batch 1024.

    twinlens train supcon cifar10/train.zip --recipe cifar10 --out RUN
    """
    settings = TrainingSettings(
        stored_size=32,
        epochs=200,
        batch=1024,
        lr=0.5,
        lr_scaling="none",
        warmup=480,
        weight_decay=1e-4,
        precision="bf16",
    )
    return Config("supcon", SupCon(crops=Crops(blur=(0.0,))), settings)
