"""Recipes of colorization."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.colorize import Colorize
from twinlens.training.recipes.published_views import COLOURED


def default() -> Config:
    """Small images on any machine: a tiny ResNet, wide bins, ten epochs.

    twinlens train colorize DATA --out RUN
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
    return Config("colorize", Colorize(bin_side=20.0), settings)


def imagenet() -> Config:
    """ResNet-50 at 224 pixels: Zhang et al. 2016, sections 2.2 and 2.3; the release's solver.

    Colours of cells of 4 x 4 pixels in bins of 10, rare ones weighing more.

    Hardware of the source: not stated.

    twinlens train colorize DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        steps=500_000,
        batch=40,
        optimizer="adamw",
        lr=3e-5,
        lr_scaling="none",
        momentum=0.9,
        beta2=0.99,
        weight_decay=1e-3,
        precision="bf16",
    )
    objective = Colorize(cell=4, bin_side=10.0, nearest=5, spread=5.0, width=256, crops=COLOURED)
    return Config("colorize", objective, settings)
