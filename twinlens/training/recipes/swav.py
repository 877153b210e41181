"""Recipes of SwAV."""

from __future__ import annotations

import dataclasses
from typing import Any

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.swav import SwAV
from twinlens.training.recipes.published_views import LOCAL_RATIO, STRONG
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ResNet, ten epochs, 2 + 4 crops.

    twinlens train swav DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny", epochs=10, batch=128, lr=0.3, warmup=10, weight_decay=1e-4, clip=5.0
    )
    crops = Crops(scale_min=0.3, blur=(0.0,))
    local = Crops(4, size_ratio=0.5, scale_min=0.1, scale_max=0.4, blur=(0.0,))
    return Config("swav", SwAV(prototypes=256, crops=crops, local=local), settings)


def cifar10() -> Config:
    """ResNet-18, 200 epochs, batch 256, two crops, a queue from epoch 50.

    twinlens train swav cifar10/train.zip --recipe cifar10 --out RUN
    """
    settings = TrainingSettings(
        stored_size=32,
        epochs=200,
        batch=256,
        optimizer="lars",
        trust=0.02,
        lr=0.6,
        warmup=1950,
        weight_decay=1e-6,
        precision="bf16",
    )
    objective = SwAV(
        prototypes=3000,
        hidden=2048,
        queue=3840,
        queue_from=50,
        frozen_epochs=1,
        crops=Crops(blur=(0.0,)),
        local=Crops(0),
    )
    return Config("swav", objective, settings)


def imagenet() -> Config:
    """ResNet-50, 2 x 224 + 6 x 96 pixels: Caron et al. 2020, appendix A; its scripts.

    Hardware of the source: 64 V100, 3 min 40 s an epoch, so 49 hours (README).

    twinlens train swav DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=800,
        batch=4096,
        optimizer="lars",
        lr=0.3,
        lr_floor=0.001,
        warmup=3120,
        weight_decay=1e-6,
        precision="bf16",
    )
    return Config("swav", _multi_crop(frozen_epochs=1.0), settings)


def small_batch() -> Config:
    """The same at batch 256 for 200 epochs, with a queue from epoch 15: its scripts.

    Hardware of the source: 4 V100 (section 4), 52 min an epoch, so 174 hours (README).

    twinlens train swav DATA --recipe small_batch --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=200,
        batch=256,
        optimizer="lars",
        lr=0.6,
        lr_floor=0.001,
        weight_decay=1e-6,
        precision="bf16",
    )
    return Config("swav", _multi_crop(queue=3840, queue_from=15, frozen_epochs=1.0), settings)


def _multi_crop(**changes: Any) -> SwAV:
    large = dataclasses.replace(STRONG, scale_min=0.14)
    local = dataclasses.replace(
        STRONG, count=6, size_ratio=LOCAL_RATIO, scale_min=0.05, scale_max=0.14
    )
    return SwAV(prototypes=3000, hidden=2048, crops=large, local=local, **changes)
