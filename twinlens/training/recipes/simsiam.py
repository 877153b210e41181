"""Recipes of SimSiam."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.simsiam import SimSiam
from twinlens.training.recipes.published_views import MOCO_V2
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ResNet, ten epochs.

    twinlens train simsiam DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny", epochs=10, lr=0.1, warmup=10, weight_decay=5e-4, clip=5.0
    )
    return Config("simsiam", SimSiam(crops=Crops(blur=(0.0,))), settings)


def cifar10() -> Config:
    """ResNet-18, 200 epochs, batch 512, the paper's rate; no blur, as the images are small.

    twinlens train simsiam cifar10/train.zip --recipe cifar10 --out RUN
    """
    settings = TrainingSettings(
        stored_size=32, epochs=200, batch=512, lr=0.03, weight_decay=5e-4, precision="bf16"
    )
    objective = SimSiam(hidden=2048, dim=2048, bottleneck=512, crops=Crops(blur=(0.0,)))
    return Config("simsiam", objective, settings)


def imagenet() -> Config:
    """ResNet-50 at 224 pixels, batch 512, 100 epochs: Chen and He 2020, section 3.

    Hardware of the source: 8 GPUs (section 3); hours not stated.

    twinlens train simsiam DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=100,
        batch=512,
        lr=0.05,
        weight_decay=1e-4,
        precision="bf16",
    )
    objective = SimSiam(hidden=2048, dim=2048, bottleneck=512, crops=MOCO_V2)
    return Config("simsiam", objective, settings)
