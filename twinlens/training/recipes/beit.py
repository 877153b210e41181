"""Recipes of BEiT."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.beit import BEiT
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ViT of 4-pixel patches, ten epochs.

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
    """ViT-B/16 at 224 pixels, 8,192 codes, batch 2048: Bao et al. 2021, section 3.1.

    The tokenizer is our own, where the paper takes that of DALL-E; positions there are relative.

    Hardware of the source: 16 V100 of 32 GB, five days (section 3.1).

    twinlens train beit DATA --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-base/16",
        image_size=224,
        epochs=800,
        batch=2048,
        accumulate=8,
        optimizer="adamw",
        lr=1.5e-3,
        lr_scaling="none",
        warmup=6250,
        weight_decay=0.05,
        clip=3.0,
        drop_path=0.1,
        layer_scale=0.1,
        norm_eps=1e-6,
        precision="bf16",
    )
    crops = Crops(1, scale_min=0.08, jitter=1.0, saturation=0.4, hue=0.0, grey=0.0, blur=(0.0,))
    objective = BEiT(size=8192, ratio=0.4, tokenizer_steps=20000, crops=crops)
    return Config("beit", objective, settings)
