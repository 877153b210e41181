"""Recipes of SimMIM."""

from __future__ import annotations

import dataclasses

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.mae import plain_crop
from twinlens.training.objectives.simmim import SimMIM


def default() -> Config:
    """Small images on any machine: a tiny ViT of 4-pixel patches, ten epochs.

    twinlens train simmim DATA --out RUN
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
    return Config("simmim", SimMIM(), settings)


def vit() -> Config:
    """ViT-B/16 at 224 pixels, batch 2048: Xie et al. 2021, section 4.1, and its release.

    The release trains 800 epochs and has its rate fall once, at epoch 700; positions there are
    relative.

    Hardware of the source: 16 GPUs, for a Swin-B (README); hours not stated.

    twinlens train simmim DATA --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-base/16",
        image_size=224,
        epochs=800,
        batch=2048,
        accumulate=8,
        optimizer="adamw",
        lr=5e-5,
        warmup=6250,
        momentum=0.9,
        beta2=0.999,
        weight_decay=0.05,
        clip=5.0,
        drop_path=0.1,
        norm_eps=1e-6,
        precision="bf16",
    )
    crops = dataclasses.replace(plain_crop(), scale_min=0.67)
    return Config("simmim", SimMIM(crops=crops), settings)
