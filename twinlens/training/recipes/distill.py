"""Recipes of distillation."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.nn.teachers import TeacherSettings
from twinlens.training.objectives.distill import Distill
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small images on any machine: a tiny ResNet learns what a bundle answers.

    twinlens train distill DATA --set teachers=BUNDLE --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny/stride2",
        image_size=32,
        epochs=40,
        batch=128,
        optimizer="adamw",
        lr=2e-3,
        lr_scaling="none",
        warmup=50,
        weight_decay=0.02,
        clip=1.0,
    )
    return Config("distill", Distill(), settings)


def tokens() -> Config:
    """A small ViT that learns embeddings and patch tokens of a larger one (a run, timm's).

    twinlens train distill DATA --set teachers=SOURCE --recipe tokens --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-nano/4",
        image_size=32,
        epochs=40,
        batch=128,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=50,
        weight_decay=0.05,
        clip=1.0,
    )
    return Config("distill", Distill(token_weight=0.5), settings)


def imagenet() -> Config:
    """ResNet-50 at 224 pixels, 1200 epochs: Beyer et al. 2022; the release's bit_i1k configuration.

    Here the student learns embeddings, there probabilities; images are not blended, and each
    has 30 views (Vasu et al. 2024, section 5) where there each epoch draws a new one.

    Hardware of the source: 32 TPU v3 cores, 15 hours for 300 epochs (the configuration).

    twinlens train distill DATA --set teachers=BUNDLE --recipe imagenet --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet50",
        image_size=224,
        epochs=1200,
        batch=4096,
        accumulate=8,
        optimizer="adamw",
        lr=0.03,
        lr_scaling="none",
        warmup=5000,
        weight_decay=3e-4,
        clip=1.0,
        precision="bf16",
    )
    crops = Crops(1, scale_min=0.05, jitter=0.0, grey=0.0, blur=(0.0,))
    return Config("distill", Distill(TeacherSettings(views=30), crops=crops), settings)
