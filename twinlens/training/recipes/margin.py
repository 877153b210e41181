"""Recipes of the margin contrastive loss."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.margin import Margin
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small labelled images on whatever machine there is: a tiny ResNet, ten epochs.

    twinlens train margin DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny", epochs=10, batch=128, lr=0.3, warmup=10, weight_decay=1e-4, clip=5.0
    )
    return Config("margin", Margin(crops=Crops(blur=(0.0,))), settings)
