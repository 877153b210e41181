"""Recipes of MAE."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.mae import MAE


def default() -> Config:
    """Small images on any machine: a tiny ViT of 4-pixel patches, ten epochs.

    twinlens train mae DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-nano/4",
        epochs=10,
        optimizer="adamw",
        lr=1.5e-3,
        lr_scaling="none",
        warmup=20,
        momentum=0.9,
        beta2=0.95,
        weight_decay=0.05,
        clip=5.0,
    )
    return Config("mae", MAE(), settings)


def vit() -> Config:
    """ViT-B/16 at 224 pixels, batch 4096: He et al. 2021, appendix A.1, table 8.

    Hardware of the source: 64 V100, 42 hours, for a ViT-L (the release's PRETRAIN.md).

    twinlens train mae DATA --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-base/16",
        image_size=224,
        epochs=800,
        batch=4096,
        accumulate=8,
        optimizer="adamw",
        lr=1.5e-4,
        warmup=12480,
        momentum=0.9,
        beta2=0.95,
        weight_decay=0.05,
        clip=0.0,
        norm_eps=1e-6,
        precision="bf16",
    )
    return Config("mae", MAE(width=512, depth=8, attention_heads=16), settings)
