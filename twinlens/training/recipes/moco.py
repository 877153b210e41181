"""Recipes of MoCo: v1 and v2 differ in head, views and temperature."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.moco import MoCo
from twinlens.training.schedules import Cosine
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on whatever machine there is: a tiny ResNet, ten epochs.

    twinlens train moco DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny",
        epochs=10,
        lr=0.3,
        warmup=10,
        weight_decay=1e-4,
        clip=5.0,
        batchnorm="split",
    )
    return Config("moco", MoCo(temperature=0.2, crops=Crops(blur=(0.0,))), settings)


def v1() -> Config:
    """MoCo v1: linear head, one direction, T 0.07, no blur.

    twinlens train moco DATA --recipe v1 --out RUN
    """
    settings = TrainingSettings(epochs=200, lr=0.03, weight_decay=1e-4, batchnorm="split")
    crops = Crops(jitter=1.0, hue=0.4, blur=(0.0,))
    objective = MoCo(
        0.07, 65536, hidden=0, symmetric=False, follow=Cosine(0.999, 0.999), crops=crops
    )
    return Config("moco", objective, settings)


def v2() -> Config:
    """MoCo v2: MLP head, one direction, T 0.2, blur.

    twinlens train moco DATA --recipe v2 --out RUN
    """
    settings = TrainingSettings(epochs=200, lr=0.03, weight_decay=1e-4, batchnorm="split")
    objective = MoCo(0.2, 65536, hidden=2048, symmetric=False, follow=Cosine(0.999, 0.999))
    return Config("moco", objective, settings)


def cifar10() -> Config:
    """ResNet-18, 200 epochs, symmetric, BatchNorm in 8 splits: the public CIFAR-10 reference.

    twinlens train moco cifar10/train.zip --recipe cifar10 --out RUN
    """
    settings = TrainingSettings(
        stored_size=32,
        epochs=200,
        batch=512,
        lr=0.06,
        lr_scaling="none",
        weight_decay=5e-4,
        batchnorm="split",
        precision="bf16",
    )
    objective = MoCo(0.1, 4096, hidden=0, crops=Crops(blur=(0.0,)))
    return Config("moco", objective, settings)
