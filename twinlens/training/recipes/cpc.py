"""Recipes of CPC."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.cpc import CPC


def default() -> Config:
    """Small images on whatever machine there is: a tiny ResNet on 3 x 3 patches, ten epochs.

    twinlens train cpc DATA --out RUN
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
        clip=1.0,
    )
    return Config("cpc", CPC(), settings)
