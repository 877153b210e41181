"""Recipes of distillation."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.distill import Distill


def default() -> Config:
    """Small images on whatever machine there is: a tiny ResNet learns what a bundle answers.

    twinlens train distill DATA --set teachers=BUNDLE --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny/stride2",
        image_size=32,
        epochs=40,
        batch=128,
        optimizer="adamw",
        lr=2e-3,
        lr_scaling="none",
        warmup=50,
        weight_decay=0.02,
        clip=1.0,
    )
    return Config("distill", Distill(), settings)


def tokens() -> Config:
    """A small ViT that learns embeddings and patch tokens of a larger one (a run, timm's).

    twinlens train distill DATA --set teachers=SOURCE --recipe tokens --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-nano/4",
        image_size=32,
        epochs=40,
        batch=128,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=50,
        weight_decay=0.05,
        clip=1.0,
    )
    return Config("distill", Distill(token_weight=0.5), settings)
