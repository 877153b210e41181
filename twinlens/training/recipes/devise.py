"""Recipes of DeViSE."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.devise import DeViSE


def default() -> Config:
    """Small captioned images on any machine: a small ResNet and text transformer.

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


def vit() -> Config:
    """ViT-S/16 at 224 pixels, margin 0.1: Frome et al. 2013, section 3.3.

    Texts learn along unless `frozen_text` is set and they start from weights. Towers, optimizer and
    epochs are those of Radford et al. 2021, tables 18 and 20, at a batch of 4096: the former had
    networks of another kind.

    Hardware of the source: not stated.

    twinlens train devise SHARDS --recipe vit --out RUN
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
    return Config("devise", DeViSE(dim=384, margin=0.1), settings)
