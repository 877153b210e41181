"""Recipes of supervised fine-tuning."""

from __future__ import annotations

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.objectives.finetune import FineTune
from twinlens.training.views.blends import Blends
from twinlens.training.views.crops import Crops


def default() -> Config:
    """Small labelled images on any machine, from new weights or `init`.

    twinlens train finetune DATA --set init=SOURCE --out RUN
    """
    settings = TrainingSettings(
        encoder="resnet-tiny",
        epochs=20,
        batch=64,
        optimizer="adamw",
        lr=1e-3,
        lr_scaling="none",
        warmup=50,
        weight_decay=0.05,
        clip=1.0,
    )
    return Config("finetune", FineTune(blends=Blends(mixup=0.2, cutmix=1.0, share=0.5)), settings)


def vit() -> Config:
    """ViT-B/16 at 224 pixels, batch 1024: He et al. 2021, appendix A.1, table 9.

    Hardware of the source: 32 V100, 7 hours (the release's FINETUNE.md).

    twinlens train finetune DATA --set init=RUN --recipe vit --out RUN
    """
    settings = TrainingSettings(
        encoder="vit-base/16",
        image_size=224,
        epochs=100,
        batch=1024,
        accumulate=8,
        optimizer="adamw",
        lr=5e-4,
        warmup=6255,
        beta2=0.999,
        weight_decay=0.05,
        layer_decay=0.65,
        drop_path=0.1,
        norm_eps=1e-6,
        precision="bf16",
    )
    objective = FineTune(
        smoothing=0.1,
        ema=0.0,
        blends=Blends(mixup=0.8, cutmix=1.0),
        crops=Crops(1, scale_min=0.08, jitter=0.0, grey=0.0, blur=(0.0,)),
    )
    return Config("finetune", objective, settings)
