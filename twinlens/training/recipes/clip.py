"""Recipes of CLIP."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.clip import CLIP


def default() -> Config:
    """Small captioned images on any machine: a small ResNet and text transformer.

    twinlens train clip DATA --out RUN
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
    return Config("clip", CLIP(), settings)


def lit() -> Config:
    """A frozen image tower that knows pictures, and a small text tower that learns to name them.

    After LiT (Zhai et al. 2022), at the size of a CPU: the tower answers once to each image.
    twinlens train clip DATA --set init=SOURCE --recipe lit --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet10/stride2",
        image_size=64,
        epochs=40,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=20,
        momentum=0.9,
        beta2=0.98,
        weight_decay=1e-4,
        clip=1.0,
    )
    return Config("clip", CLIP(dim=0, locked=True), settings)


def vit() -> Config:
    """ViT-S/16 at 224 pixels: Radford et al. 2021, tables 18 and 20, at a batch of 4096.

    Hardware of the source: 256 V100, 12 days, for a ViT-L/14 (section 2.5).

    twinlens train clip SHARDS --recipe vit --out RUN
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
        lr=5e-4,
        lr_scaling="none",
        warmup=2000,
        momentum=0.9,
        beta2=0.98,
        adam_eps=1e-6,
        weight_decay=0.2,
        precision="bf16",
    )
    return Config("clip", CLIP(dim=384), settings)
