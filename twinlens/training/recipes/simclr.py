"""Recipes of SimCLR."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.simclr import SimCLR
from twinlens.training.recipes.published_views import STRONG
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ResNet, ten epochs.

    twinlens train simclr DATA --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny", epochs=10, batch=256, lr=0.5, warmup=10, weight_decay=1e-4, clip=5.0
    )
    return Config("simclr", SimCLR(crops=Crops(blur=(0.0,))), settings)


def cifar10() -> Config:
    """ResNet-18, 100 epochs, batch 512, T 0.5: the setting of the public 100-epoch reference.

    twinlens train simclr cifar10/train.zip --recipe cifar10 --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet18",
        stored_size=32,
        epochs=100,
        batch=512,
        lr=0.06,
        warmup=500,
        weight_decay=5e-4,
        precision="bf16",
    )
    crops = Crops(blur=(0.0,), grey=0.1)
    return Config("simclr", SimCLR(temperature=0.5, hidden=512, crops=crops), settings)


def cifar10_fast() -> Config:
    """ResNet-18 for one GPU: batch 1024, 350 epochs, the step compiled and recorded.

    twinlens train simclr cifar10/train.zip --recipe cifar10_fast --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet18",
        stored_size=32,
        epochs=350,
        batch=1024,
        lr=0.06,
        warmup=480,
        weight_decay=5e-4,
        precision="bf16",
        compile=True,
        capture=True,
        log_every=100,
    )
    crops = Crops(blur=(0.0,), grey=0.1)
    return Config("simclr", SimCLR(temperature=0.5, hidden=512, crops=crops), settings)


def cifar10_build_it() -> Config:
    """ResNet-50 on CIFAR-10 by AdamW: batch 256, 80 epochs, T 0.07, dropout 0.1 in the projector.

    twinlens train simclr cifar10/train.zip --recipe cifar10_build_it --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        stored_size=32,
        epochs=80,
        batch=256,
        optimizer="adamw",
        lr=3e-4,
        lr_scaling="none",
        weight_decay=1e-4,
        precision="bf16",
    )
    crops = Crops(blur=(0.0,))
    return Config(
        "simclr", SimCLR(temperature=0.07, hidden=2048, dropout=0.1, crops=crops), settings
    )


def cifar10_resnet50() -> Config:
    """ResNet-50, 80 epochs, batch 512.

    twinlens train simclr cifar10/train.zip --recipe cifar10_resnet50 --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        stored_size=32,
        epochs=80,
        batch=512,
        optimizer="lars",
        lr=1.0,
        warmup=970,
        weight_decay=1e-6,
        precision="bf16",
    )
    crops = Crops(blur=(0.0,))
    return Config("simclr", SimCLR(temperature=0.5, hidden=2048, crops=crops), settings)


def imagenet() -> Config:
    """ResNet-50 at 224 pixels, batch 4096: Chen et al. 2020, section 2.2, appendices A and B.

    Hardware of the source: 128 TPU v3 cores, 1.5 hours for 100 epochs (section 2.2).

    twinlens train simclr DATA --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=100,
        batch=4096,
        optimizer="lars",
        lr=0.3,
        warmup=3120,
        weight_decay=1e-6,
        precision="bf16",
    )
    return Config("simclr", SimCLR(temperature=0.1, hidden=2048, crops=STRONG), settings)
