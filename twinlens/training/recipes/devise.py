"""Recipes of DeViSE."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.devise import DeViSE


def default() -> Config:
    """Small captioned images on whatever machine there is: a small ResNet and text transformer.

    twinlens train devise DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet10/stride2",
        image_size=64,
        epochs=10,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=100,
        beta2=0.98,
        weight_decay=0.05,
        clip=1.0,
    )
    return Config("devise", DeViSE(), settings)
