"""Recipes of MoCo: v1 and v2 differ in head, views and temperature."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.moco import MoCo
from twinlens.training.recipes.published_views import MOCO_V2
from twinlens.training.schedules import Cosine
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ResNet, ten epochs.

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
    """ResNet-50 at 224 pixels: He et al. 2019, sections 3 and 4.

    Linear head, one direction, T 0.07, no blur. The rate falls along a cosine, there in two steps.

    Hardware of the source: 8 GPUs, 53 hours (section 4).

    twinlens train moco DATA --recipe v1 --out RUN
    """
    crops = Crops(jitter=1.0, hue=0.4, blur=(0.0,))
    objective = MoCo(
        0.07, 65536, hidden=0, symmetric=False, follow=Cosine(0.999, 0.999), crops=crops
    )
    return Config("moco", objective, _resnet50())


def v2() -> Config:
    """The same with an MLP head, T 0.2, blur: Chen et al. 2020, section 3, table 1.

    Hardware of the source: 8 V100, 53 hours (table 3).

    twinlens train moco DATA --recipe v2 --out RUN
    """
    objective = MoCo(
        0.2, 65536, hidden=2048, symmetric=False, follow=Cosine(0.999, 0.999), crops=MOCO_V2
    )
    return Config("moco", objective, _resnet50())


def _resnet50() -> TrainingSettings:
    return TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=200,
        batch=256,
        lr=0.03,
        weight_decay=1e-4,
        batchnorm="split",
        precision="bf16",
    )


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
