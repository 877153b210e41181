"""Recipes of the triplet loss."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.triplet import Triplet
from twinlens.training.recipes.published_views import STRONG
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small labelled images on any machine: a tiny ResNet, ten epochs.

    twinlens train triplet DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny", epochs=10, batch=128, lr=0.3, warmup=10, weight_decay=1e-4, clip=5.0
    )
    return Config("triplet", Triplet(crops=Crops(blur=(0.0,))), settings)


def imagenet() -> Config:
    """ResNet-50 at 224 pixels, margin 0.2, 128 numbers: Schroff et al. 2015, sections 3 and 4.

    A batch of 1,800 and a first rate of 0.05, as there; views and epochs are those of Khosla et al.
    2020, section 4.4, since faces have no classes of ImageNet.

    Hardware of the source: a CPU cluster, 1,000 to 2,000 hours (section 3.3).

    twinlens train triplet DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=350,
        batch=1800,
        lr=0.05,
        lr_scaling="none",
        warmup=7110,
        weight_decay=1e-4,
        precision="bf16",
    )
    return Config("triplet", Triplet(hidden=2048, crops=STRONG), settings)
