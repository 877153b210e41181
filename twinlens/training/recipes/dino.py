"""Recipes of DINO."""

from __future__ import annotations

import dataclasses

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.dino import DINO
from twinlens.training.recipes.published_views import BYOL_PAIR, SMALL_CROPS
from twinlens.training.schedules import Cosine
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ResNet, ten epochs, 2 + 4 crops.

    twinlens train dino DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny",
        epochs=10,
        batch=128,
        optimizer="adamw",
        lr=2e-3,
        lr_scaling="none",
        warmup=20,
        weight_decay=0.04,
        weight_decay_end=0.2,
        clip=3.0,
    )
    crops = Crops(scale_min=0.4, blur=(0.0,), solarize=(0.0, 0.2))
    local = Crops(4, size_ratio=0.5, scale_min=0.1, scale_max=0.4, blur=(0.0,))
    return Config("dino", DINO(frozen_epochs=0.1, crops=crops, local=local), settings)


def vit() -> Config:
    """ViT-S/16, 2 x 224 + 8 x 96 pixels: Caron et al. 2021, section 3.2; its release.

    Hardware of the source: 8 GPUs, 42 hours (README).

    twinlens train dino DATA --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-small/16",
        image_size=224,
        epochs=100,
        batch=1024,
        optimizer="adamw",
        lr=5e-4,
        lr_floor=5e-4,
        warmup=12510,
        weight_decay=0.04,
        weight_decay_end=0.4,
        clip=3.0,
        drop_path=0.1,
        norm_eps=1e-6,
        precision="bf16",
    )
    objective = DINO(
        prototypes=65536,
        hidden=2048,
        narrow=256,
        crops=dataclasses.replace(BYOL_PAIR, scale_min=0.4),
        local=dataclasses.replace(SMALL_CROPS, count=8, scale_max=0.4),
    )
    return Config("dino", objective, settings)


def cifar10() -> Config:
    """ResNet-18, 200 epochs, batch 256, two crops, 4096 prototypes, a slow EMA teacher.

    twinlens train dino cifar10/train.zip --recipe cifar10 --out RUN
    """
    settings = TrainingSettings(
        stored_size=32,
        epochs=200,
        batch=256,
        optimizer="lars",
        trust=0.02,
        lr=0.3,
        warmup=1950,
        weight_decay=1e-6,
        clip=3.0,
        precision="bf16",
    )
    objective = DINO(
        prototypes=4096,
        hidden=2048,
        narrow=256,
        follow=Cosine(0.9995, 1.0),
        crops=Crops(blur=(0.0,), solarize=(0.0, 0.2)),
        local=Crops(0),
    )
    return Config("dino", objective, settings)
