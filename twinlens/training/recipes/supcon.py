"""Recipes of SupCon."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.supcon import SupCon
from twinlens.training.recipes.published_views import STRONG
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small labelled images on any machine: a tiny ResNet, ten epochs.

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


def imagenet() -> Config:
    """ResNet-50 at 224 pixels, T 0.1: Khosla et al. 2020, section 4.4, with SimCLR's views.

    The paper's best numbers are with AutoAugment, which is not here, and a batch of 6144.

    Hardware of the source: not stated.

    twinlens train supcon DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=350,
        batch=1024,
        lr=0.5,
        lr_scaling="none",
        warmup=12510,
        weight_decay=1e-4,
        precision="bf16",
    )
    return Config("supcon", SupCon(hidden=2048, crops=STRONG), settings)
