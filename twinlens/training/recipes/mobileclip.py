"""Recipes of MobileCLIP."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.nn.teachers import TeacherSettings
from twinlens.training.objectives.mobileclip import MobileCLIP
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small captioned images on any machine, and a bundle with two towers to follow.

    twinlens train mobileclip DATA --set teachers=BUNDLE --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny/stride2",
        image_size=48,
        epochs=20,
        batch=128,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=20,
        beta2=0.98,
        weight_decay=0.05,
        clip=1.0,
    )
    return Config("mobileclip", MobileCLIP(), settings)


def vit() -> Config:
    """ViT-B/16 at 224 pixels, 30 views: Vasu et al. 2024, section 5; the release's 1B script.

    Hardware of the source: not stated.

    twinlens train mobileclip SHARDS --set teachers=BUNDLE,BUNDLE --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-base/16",
        image_size=224,
        text_width=512,
        text_depth=12,
        text_heads=8,
        tokenizer="clip",
        context=77,
        steps=200_000,
        batch=65_536,
        chunk=1024,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=1000,
        beta2=0.95,
        weight_decay=0.2,
        clip=1.0,
        precision="bf16",
    )
    objective = MobileCLIP(
        TeacherSettings(views=30),
        distill_weight=0.75,
        teacher_scale=100.0,
        dim=512,
        crops=Crops(1, scale_min=0.08, flip=0.5, jitter=0.0, grey=0.0, blur=(0.0,)),
    )
    return Config("mobileclip", objective, settings)
