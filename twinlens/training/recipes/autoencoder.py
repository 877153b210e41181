"""Recipes of autoencoders, plain and denoising."""

from __future__ import annotations

import dataclasses

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.autoencoder import Autoencoder


def default() -> Config:
    """Small images on any machine: a tiny ResNet, a code of 64 numbers, ten epochs.

    twinlens train autoencoder DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny",
        epochs=10,
        batch=128,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=20,
        weight_decay=1e-4,
        clip=5.0,
    )
    return Config("autoencoder", Autoencoder(), settings)


def denoising() -> Config:
    """The same, reconstructing from pictures with a quarter of the pixels masked.

    twinlens train autoencoder DATA --recipe denoising --out RUN
    """
    config = default()
    objective = dataclasses.replace(config.objective, noise="masking", amount=0.25)
    return dataclasses.replace(config, objective=objective)


def imagenet() -> Config:
    """ResNet-50 at 224 pixels, denoising: Vincent et al. 2010, section 6; He et al. 2021, table 8.

    A quarter of the pixels is put out, as in the former; crops, optimizer and epochs are those of
    the latter, since no autoencoder of the former's kind was trained at this size.

    Hardware of the source: not stated for the former; of the latter's see the recipe of MAE.

    twinlens train autoencoder DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=800,
        batch=4096,
        accumulate=8,
        optimizer="adamw",
        lr=1.5e-4,
        warmup=12480,
        momentum=0.9,
        beta2=0.95,
        weight_decay=0.05,
        precision="bf16",
    )
    objective = Autoencoder(noise="masking", amount=0.25, dim=512, width=32, layers=6)
    return Config("autoencoder", objective, settings)
