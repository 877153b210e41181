"""Recipes of VICReg."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.vicreg import VICReg
from twinlens.training.recipes.published_views import BYOL_PAIR
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ResNet, ten epochs.

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


def imagenet() -> Config:
    """ResNet-50 at 224 pixels, batch 2048: Bardes et al. 2021, section 4.2.

    Hardware of the source: 32 GPUs (README); hours not stated there.

    twinlens train vicreg DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=1000,
        batch=2048,
        optimizer="lars",
        lr=0.2,
        lr_floor=0.002,
        warmup=6250,
        weight_decay=1e-6,
        precision="bf16",
    )
    return Config("vicreg", VICReg(hidden=8192, dim=8192, crops=BYOL_PAIR), settings)
