"""Recipes at 224 pixels hold the numbers of their papers and releases, and name their places."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from tests.training.family import ALL
from twinlens.training.config import known_keys
from twinlens.training.loop.optimizers import rate_scale
from twinlens.training.nn.heads import mlp
from twinlens.training.objectives.mocov3 import MoCoV3
from twinlens.training.recipes import list_recipes, open_recipe

IMAGENET = 1_281_167
# Retyped from the papers and the releases' configurations, apart from the recipes' own code. `rate`
# is the peak learning rate, `warm` the epochs of warmup over ImageNet.
PUBLISHED: dict[str, dict[str, Any]] = {
    "simclr/imagenet": {
        "batch": 4096, "rate": 4.8, "warm": 10, "weight_decay": 1e-6, "temperature": 0.1,
        "crops.brightness": 0.8, "crops.saturation": 0.8, "crops.hue": 0.2, "crops.scale_min": 0.08,
    },
    "moco/v1": {"rate": 0.03, "queue": 65536, "temperature": 0.07, "crops.hue": 0.4},
    "moco/v2": {"rate": 0.03, "queue": 65536, "temperature": 0.2, "crops.scale_min": 0.2},
    "mocov3/vit": {
        "rate": 6e-4, "warm": 40, "weight_decay": 0.1, "hidden": 4096, "layers": 3, "dim": 256,
        "patch_rate": 0.0, "predictor_norm": True, "crops.saturation": 0.2, "crops.scale_min": 0.08,
    },
    "mocov3/resnet50": {"rate": 9.6, "warm": 10, "temperature": 1.0, "crops.scale_min": 0.2},
    "byol/imagenet": {
        "rate": 3.2, "weight_decay": 1.5e-6, "hidden": 4096, "dim": 256, "follow.start": 0.996,
        "crops.saturation": 0.2, "crops.scale_min": 0.08, "epochs": 1000,
    },
    "simsiam/imagenet": {"rate": 0.1, "weight_decay": 1e-4, "hidden": 2048, "bottleneck": 512},
    "swav/imagenet": {
        "rate": 4.8, "warm": 10, "prototypes": 3000, "crops.scale_min": 0.14, "local.count": 6,
        "local.scale_max": 0.14, "crops.brightness": 0.8, "crops.hue": 0.2, "local.saturation": 0.8,
    },
    "swav/small_batch": {"rate": 0.6, "queue": 3840, "queue_from": 15, "frozen_epochs": 1.0},
    "barlow/imagenet": {
        "rate": 1.6, "warm": 10, "dim": 8192, "hidden": 8192, "off_diagonal": 0.0051,
        "scale": 0.024, "crops.saturation": 0.2, "crops.scale_min": 0.08,
    },
    "vicreg/imagenet": {"rate": 1.6, "warm": 10, "dim": 8192, "crops.saturation": 0.2},
    "dino/vit": {
        "rate": 2e-3, "warm": 10, "prototypes": 65536, "crops.scale_min": 0.4, "local.count": 8,
        "local.scale_max": 0.4, "crops.saturation": 0.2, "local.saturation": 0.2, "clip": 3.0,
        "weight_decay_end": 0.4, "drop_path": 0.1, "follow.start": 0.996,
    },
    "ibot/vit": {
        "rate": 2e-3, "prototypes": 8192, "separate": False, "crops.scale_min": 0.25,
        "local.count": 10, "local.scale_max": 0.25, "masked.share": 0.5, "masked.ratio_max": 0.5,
    },
    "dinov2/vit": {
        "rate": 0.004 * 2**0.5, "prototypes": 65536, "crops.scale_min": 0.32, "local.count": 8,
        "local.scale_max": 0.32, "follow.start": 0.992, "layer_decay": 0.9, "patch_rate": 0.2,
        "drop_path": 0.3, "drop_path_even": True, "layer_scale": 1e-5, "koleo": 0.1,
        "steps": 125000, "warmup": 12500, "masked.ratio_min": 0.1,
    },
    "mae/vit": {"rate": 2.4e-3, "warm": 40, "beta2": 0.95, "ratio": 0.75, "depth": 8, "width": 512},
    "simmim/vit": {"rate": 4e-4, "warm": 10, "crops.scale_min": 0.67, "unit": 2, "drop_path": 0.1},
    "beit/vit": {"rate": 1.5e-3, "warm": 10, "size": 8192, "layer_scale": 0.1, "drop_path": 0.1},
    "lejepa/vit": {
        "rate": 5e-4, "lr_floor": 1e-3, "weight_decay": 0.05, "gaussian_weight": 0.05, "points": 17,
        "reach": 3.0, "directions": 1024, "dim": 512, "drop_path": 0.1, "batch": 512,
        "crops.scale_min": 0.3, "local.count": 6, "local.scale_min": 0.05, "local.scale_max": 0.3,
        "crops.saturation": 0.2, "crops.solarize": (0.2,), "local.solarize": (0.2,), "epochs": 100,
    },
    "finetune/vit": {
        "rate": 2e-3, "warm": 5, "weight_decay": 0.05, "layer_decay": 0.65, "drop_path": 0.1,
        "smoothing": 0.1, "blends.mixup": 0.8, "blends.cutmix": 1.0, "epochs": 100, "batch": 1024,
    },
    "mobileclip/vit": {
        "rate": 1e-3, "warmup": 1000, "weight_decay": 0.2, "beta2": 0.95, "clip": 1.0,
        "batch": 65536, "steps": 200000, "distill_weight": 0.75, "teacher_scale": 100.0,
        "teachers.views": 30, "crops.scale_min": 0.08,
    },
    "clip/vit": {
        "rate": 5e-4, "warmup": 2000, "weight_decay": 0.2, "beta2": 0.98, "adam_eps": 1e-6,
    },
    "rotation/imagenet": {
        "rate": 0.025, "warm": 5, "weight_decay": 1e-4, "epochs": 35, "batch": 64,
        "crops.scale_min": 0.05, "crops.hue": 0.2,
    },
    "jigsaw/imagenet": {
        "rate": 0.05, "warm": 5, "weight_decay": 1e-4, "epochs": 35, "batch": 128, "orders": 100,
        "grid": 3, "narrow": 1000, "hidden": 4096, "dropout": 0.5, "crops.size": 255,
        "crops.grey": 0.66,
    },
    "context/imagenet": {
        "rate": 0.05, "warm": 5, "weight_decay": 1e-4, "epochs": 35, "batch": 128, "grid": 3,
        "hidden": 4096, "dropout": 0.5, "crops.size": 255, "crops.grey": 0.66,
    },
    "colorize/imagenet": {
        "rate": 3e-5, "beta2": 0.99, "weight_decay": 1e-3, "batch": 40, "steps": 500000, "cell": 4,
        "bin_side": 10.0, "nearest": 5, "spread": 5.0, "uniform": 0.5, "width": 256,
        "crops.scale_min": (176 / 256) ** 2,
    },
    "autoencoder/imagenet": {
        "rate": 2.4e-3, "warm": 40, "beta2": 0.95, "weight_decay": 0.05, "noise": "masking",
        "amount": 0.25, "crops.scale_min": 0.2,
    },
    "triplet/imagenet": {"rate": 0.05, "margin": 0.2, "dim": 128, "batch": 1800},
    "margin/imagenet": {"rate": 0.5, "warm": 10, "epochs": 350, "batch": 1024},
    "cpc/imagenet": {"rate": 2e-4, "grid": 7, "ahead": 5, "dim": 1024, "batch": 512},
    "devise/vit": {"rate": 5e-4, "margin": 0.1, "beta2": 0.98, "weight_decay": 0.2},
    "distill/imagenet": {
        "rate": 0.03, "weight_decay": 3e-4, "warmup": 5000, "epochs": 1200, "batch": 4096,
        "clip": 1.0, "crops.scale_min": 0.05,
    },
    "siglip/vit": {"rate": 1e-3, "weight_decay": 1e-4, "beta2": 0.95, "bias_init": -10.0},
}  # fmt: skip


def value_of(method: str, recipe: str, key: str) -> Any:
    config = open_recipe(method, recipe)
    settings = config.settings
    if key == "rate":
        return settings.lr * rate_scale(settings)
    if key == "warm":
        return settings.warmup / (IMAGENET // settings.batch)
    found = config.objective if key in known_keys(config.objective) else settings
    for name in key.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_holds_the_numbers_of_its_source(name: str) -> None:
    method, _, recipe = name.partition("/")
    assert open_recipe(method, recipe).settings.image_size == 224
    for key, wanted in PUBLISHED[name].items():
        found = value_of(method, recipe, key)
        if not isinstance(wanted, str):
            wanted = pytest.approx(wanted, rel=0.01 if key == "warm" else 1e-9)
        assert found == wanted, key


@pytest.mark.parametrize("method", ALL)
def test_a_recipe_at_224_pixels_names_its_source_and_its_place(method: str) -> None:
    for name, recipe in list_recipes(method).items():
        if recipe().settings.image_size == 224:
            text = recipe.__doc__ or ""
            assert re.search(r"et al\. 20\d\d|and (He|LeCun) 20\d\d|[Tt]he same", text), (
                method,
                name,
            )
            assert re.search(r"section|table|release|scripts|config|sources", text), (method, name)


@pytest.mark.parametrize("method", ALL)
def test_a_recipe_at_224_pixels_tells_the_hardware_it_was_written_for(method: str) -> None:
    for name, recipe in list_recipes(method).items():
        if recipe().settings.image_size == 224:
            lines = re.findall(r"^    Hardware of the source: .+\.$", recipe.__doc__ or "", re.M)
            assert len(lines) == 1, (method, name)
            numbers = re.findall(r"\d+ (?:hours|days)|five days|a day", lines[0])
            assert numbers or "not stated" in lines[0], (method, name)


def test_the_heads_of_mocov3_are_those_of_its_release() -> None:
    """Three layers and two, BatchNorm at each end, without a learned scale at the last."""
    objective = MoCoV3(layers=3, predictor_norm=True, hidden=32, dim=8)
    heads = objective.heads({"image": 16})
    layers = {name: list(head.children()) for name, head in heads.items()}
    shapes = {
        name: [tuple(layer.weight.shape) for layer in some if isinstance(layer, torch.nn.Linear)]
        for name, some in layers.items()
    }
    assert shapes == {"projector": [(32, 16), (32, 32), (8, 32)], "predictor": [(32, 8), (8, 32)]}
    for *_, last in layers.values():
        assert isinstance(last, torch.nn.BatchNorm1d) and not last.affine
    plain = MoCoV3(hidden=32, dim=8).heads({"image": 16})["predictor"]
    assert [type(layer) for layer in plain.children()] == [type(layer) for layer in mlp((8, 32, 8))]
