"""Recipes of BYOL."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.byol import BYOL
from twinlens.training.recipes.published_views import BYOL_PAIR
from twinlens.training.schedules import Cosine
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ResNet, ten epochs.

    twinlens train byol DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny", epochs=10, lr=0.3, warmup=10, weight_decay=1e-4, clip=5.0
    )
    crops = Crops(blur=(0.0,), solarize=(0.0, 0.2))
    return Config("byol", BYOL(crops=crops), settings)


def cifar10() -> Config:
    """ResNet-18, 200 epochs, batch 512.

    twinlens train byol cifar10/train.zip --recipe cifar10 --out RUN
    """
    settings = TrainingSettings(
        stored_size=32, epochs=200, batch=512, lr=0.06, weight_decay=5e-4, precision="bf16"
    )
    crops = Crops(blur=(0.0,), solarize=(0.0, 0.2))
    return Config("byol", BYOL(hidden=4096, crops=crops), settings)


def imagenet() -> Config:
    """ResNet-50 at 224 pixels, batch 4096: Grill et al. 2020, section 3.3, table 6.

    Hardware of the source: 512 TPU v3 cores, 8 hours (section 3.3).

    twinlens train byol DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=1000,
        batch=4096,
        optimizer="lars",
        lr=0.2,
        warmup=3120,
        weight_decay=1.5e-6,
        precision="bf16",
    )
    objective = BYOL(hidden=4096, follow=Cosine(0.996, 1.0), crops=BYOL_PAIR)
    return Config("byol", objective, settings)
