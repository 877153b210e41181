"""Recipes of the margin contrastive loss."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.margin import Margin
from twinlens.training.recipes.published_views import STRONG
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small labelled images on any machine: a tiny ResNet, ten epochs.

    twinlens train margin DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny", epochs=10, batch=128, lr=0.3, warmup=10, weight_decay=1e-4, clip=5.0
    )
    return Config("margin", Margin(crops=Crops(blur=(0.0,))), settings)


def imagenet() -> Config:
    """ResNet-50 at 224 pixels: the loss of Hadsell et al. 2006, section 2.1.

    That paper has no run on ImageNet: views, optimizer and epochs are those of Khosla et al. 2020,
    section 4.4, for a loss over the same pairs.

    Hardware of the source: not stated.

    twinlens train margin DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=350,
        batch=1024,
        lr=0.5,
        lr_scaling="none",
        warmup=12510,
        weight_decay=1e-4,
        precision="bf16",
    )
    return Config("margin", Margin(hidden=2048, crops=STRONG), settings)
