"""Recipes of CPC."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.cpc import CPC
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ResNet on 3 x 3 patches, ten epochs.

    twinlens train cpc DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny",
        epochs=10,
        batch=64,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=20,
        weight_decay=1e-4,
        clip=1.0,
    )
    return Config("cpc", CPC(), settings)


def imagenet() -> Config:
    """ResNet-50 on 7 x 7 half-overlapping patches: van den Oord et al. 2018, section 3.2.

    Five rows ahead, 1,024 numbers, Adam at 2e-4, a batch of 512, grey and mirrored at random as
    there; a patch has 56 pixels of 224 where that has 64 of 256, and a GRU reads the columns. The
    epochs are those of Henaff et al. 2019.

    Hardware of the source: 32 GPUs of 16 images; hours not stated.

    twinlens train cpc DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=200,
        batch=512,
        optimizer="adamw",
        lr=2e-4,
        lr_scaling="none",
        weight_decay=0.0,
        precision="bf16",
    )
    crops = Crops(
        1,
        scale_min=(256 / 300) ** 2,
        scale_max=(256 / 300) ** 2,
        ratio_min=1.0,
        ratio_max=1.0,
        jitter=0.0,
        blur=(0.0,),
    )
    return Config("cpc", CPC(grid=7, ahead=5, dim=1024, crops=crops), settings)
