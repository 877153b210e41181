"""Recipes of MoCo v3."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.mocov3 import MoCoV3
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on whatever machine there is: a tiny ResNet, ten epochs.

    twinlens train mocov3 DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny", epochs=10, lr=0.3, warmup=10, weight_decay=1e-4, clip=5.0
    )
    crops = Crops(blur=(0.0,), solarize=(0.0, 0.2))
    return Config("mocov3", MoCoV3(crops=crops), settings)


def vit() -> Config:
    """A small ViT: AdamW, long warmup, T 0.2.

    twinlens train mocov3 DATA --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-tiny",
        epochs=100,
        batch=512,
        optimizer="adamw",
        lr=1.5e-4,
        weight_decay=0.1,
        warmup=1000,
        precision="bf16",
    )
    return Config("mocov3", MoCoV3(temperature=0.2), settings)


def cifar10() -> Config:
    """ResNet-18, 200 epochs, batch 256, LARS.

    twinlens train mocov3 cifar10/train.zip --recipe cifar10 --out RUN
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
        precision="bf16",
    )
    crops = Crops(blur=(0.0,), solarize=(0.0, 0.2))
    return Config("mocov3", MoCoV3(hidden=4096, crops=crops), settings)
