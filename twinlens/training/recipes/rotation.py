"""Recipes of rotation prediction."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.rotation import Rotation
from twinlens.training.recipes.published_views import INCEPTION


def default() -> Config:
    """Small images on any machine: a tiny ResNet, ten epochs.

    twinlens train rotation DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny",
        epochs=10,
        batch=64,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=20,
        weight_decay=1e-4,
        clip=5.0,
    )
    return Config("rotation", Rotation(), settings)


def imagenet() -> Config:
    """ResNet-50 at 224 pixels: Kolesnikov et al. 2019, section 3; its configuration files.

    Hardware of the source: 8 TPU cores (README); hours not stated.

    twinlens train rotation DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=35,
        batch=64,
        lr=0.1,
        warmup=100090,
        weight_decay=1e-4,
        precision="bf16",
    )
    return Config("rotation", Rotation(crops=INCEPTION), settings)
