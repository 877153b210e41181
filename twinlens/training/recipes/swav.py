"""Recipes of SwAV."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.swav import SwAV
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on whatever machine there is: a tiny ResNet, ten epochs, 2 + 4 crops.

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
