"""Recipes of patch position."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.context import Context
from twinlens.training.recipes.published_views import TILED


def default() -> Config:
    """Small images on any machine: a tiny ResNet on pairs of tiles, ten epochs.

    twinlens train context DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny",
        epochs=10,
        batch=128,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=20,
        weight_decay=1e-4,
        clip=5.0,
    )
    return Config("context", Context(), settings)


def imagenet() -> Config:
    """ResNet-50 on tiles of 64 pixels: Kolesnikov et al. 2019, section 3; its configuration files.

    Views of 255 pixels, cut into 3 x 3 cells; two thirds of the images are grey.

    Hardware of the source: 8 TPU cores (README); hours not stated.

    twinlens train context DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=35,
        batch=128,
        lr=0.1,
        warmup=50045,
        weight_decay=1e-4,
        precision="bf16",
    )
    return Config("context", Context(tile=0.753, hidden=4096, dropout=0.5, crops=TILED), settings)
