"""Recipes of BEiT."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.beit import BEiT


def default() -> Config:
    """Small images on whatever machine there is: a tiny ViT of 4-pixel patches, ten epochs.

    twinlens train beit DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-nano/4",
        epochs=10,
        optimizer="adamw",
        lr=1.5e-3,
        lr_scaling="none",
        warmup=20,
        weight_decay=0.05,
        clip=3.0,
    )
    return Config("beit", BEiT(), settings)


def vit() -> Config:
    """ViT-B/16 at 224 pixels and 8192 codes, in the manner of the paper.

    twinlens train beit DATA --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-base/16",
        image_size=224,
        epochs=300,
        batch=2048,
        accumulate=8,
        optimizer="adamw",
        lr=1.5e-3,
        lr_scaling="none",
        warmup=6250,
        weight_decay=0.05,
        clip=3.0,
        precision="bf16",
    )
    return Config("beit", BEiT(size=8192, tokenizer_steps=20000), settings)
