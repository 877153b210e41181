"""Recipes of SigLIP."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.siglip import SigLIP


def default() -> Config:
    """Small captioned images on any machine: a small ResNet and text transformer.

    twinlens train siglip DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet10/stride2",
        image_size=64,
        epochs=10,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=20,
        momentum=0.9,
        beta2=0.98,
        weight_decay=0.05,
        clip=1.0,
    )
    return Config("siglip", SigLIP(bias_init=-5.5), settings)


def vit() -> Config:
    """ViT-S/16 at 224 pixels: Zhai et al. 2023, section 4, at a batch of 4096.

    Hardware of the source: 4 TPU v4 chips for a base model (abstract); hours not stated.

    twinlens train siglip SHARDS --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-small/16",
        image_size=224,
        text_width=384,
        text_depth=12,
        text_heads=6,
        tokenizer="clip",
        context=77,
        epochs=32,
        batch=4096,
        chunk=512,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=10000,
        momentum=0.9,
        beta2=0.95,
        weight_decay=1e-4,
        precision="bf16",
    )
    return Config("siglip", SigLIP(dim=384), settings)
