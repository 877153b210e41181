"""Recipes of VICReg."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.vicreg import VICReg
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on whatever machine there is: a tiny ResNet, ten epochs.

    twinlens train vicreg DATA --out RUN
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
    return Config("vicreg", VICReg(crops=crops), settings)


def cifar10() -> Config:
    """ResNet-18, 200 epochs, batch 256, LARS with a warmup: without one the loss can turn NaN.

    twinlens train vicreg cifar10/train.zip --recipe cifar10 --out RUN
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
    return Config("vicreg", VICReg(hidden=2048, dim=2048, crops=crops), settings)
