"""Recipes of LeJEPA."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.lejepa import LeJEPA, lejepa_crops

LOCAL_RATIO = 98 / 224


def default() -> Config:
    """Small images on any machine: a tiny ResNet, ten epochs, 2 + 4 crops.

    twinlens train lejepa DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny",
        epochs=10,
        batch=128,
        optimizer="adamw",
        lr=2e-3,
        lr_scaling="none",
        warmup=20,
        weight_decay=5e-4,
        clip=5.0,
    )
    return Config("lejepa", LeJEPA(dim=64), settings)


def vit() -> Config:
    """ViT-S/14, 2 x 224 + 6 x 98 pixels: Balestriero and LeCun 2025; its release's README, scripts.

    Hardware of the source: not stated.

    twinlens train lejepa DATA --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-small/14",
        image_size=224,
        epochs=100,
        batch=512,
        optimizer="adamw",
        lr=5e-4,
        lr_scaling="none",
        lr_floor=0.001,
        warmup=25020,
        weight_decay=0.05,
        drop_path=0.1,
        precision="bf16",
    )
    objective = LeJEPA(
        directions=1024,
        hidden=2048,
        dim=512,
        crops=lejepa_crops(2, 1.0, 0.3, 1.0),
        local=lejepa_crops(6, LOCAL_RATIO, 0.05, 0.3),
    )
    return Config("lejepa", objective, settings)
