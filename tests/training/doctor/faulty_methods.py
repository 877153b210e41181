"""Small runs for the doctor: real training on generated pictures, and one fault at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.training.family import needs_patches, split_name
from twinlens.training.config import Config, TrainingSettings
from twinlens.training.doctor.examination import examine
from twinlens.training.doctor.verdict import Diagnosis
from twinlens.training.loop.loop import NotFiniteError, train
from twinlens.training.nn.network import Network
from twinlens.training.objective import BatchRows, Declaration, LossInputs, UnitRows
from twinlens.training.objectives import find_method
from twinlens.training.objectives.byol import BYOL
from twinlens.training.objectives.dino import DINO
from twinlens.training.objectives.simclr import SimCLR
from twinlens.training.objectives.simsiam import SimSiam
from twinlens.training.objectives.swav import SwAV

SIDE = 16
ADAPTIVE = {  # trained by AdamW in their recipes
    "autoencoder",
    "barlow",
    "beit",
    "clip",
    "colorize",
    "context",
    "cpc",
    "devise",
    "dino",
    "distill",
    "dinov2",
    "finetune",
    "ibot",
    "jigsaw",
    "lejepa",
    "mae",
    "mobileclip",
    "rotation",
    "siglip",
    "simmim",
    "vicreg",
}
Settled = dict[str, Any]


def draw_shapes(folder: Path, n: int = 96) -> Path:
    """Write pictures of four kinds (disc, square, stripes, bars) in random colours."""
    draws = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    for index in range(n):
        column, row, size = draws.uniform(5, 11), draws.uniform(5, 11), draws.uniform(3, 6)
        masks = {
            "disc": (x - column) ** 2 + (y - row) ** 2 < size**2,
            "square": (abs(x - column) < size) & (abs(y - row) < size),
            "stripes": (x + y) % 6 < 3,
            "bars": x % 5 < 2,
        }
        kind = list(masks)[index % 4]
        pixels = np.tile(draws.uniform(0, 1, 3), (SIDE, SIDE, 1))
        pixels[masks[kind]] = draws.uniform(0, 1, 3)
        pixels = (pixels + draws.normal(0, 0.04, pixels.shape)).clip(0, 1)
        save_picture(folder / kind / f"{index:03}.png", (pixels * 255).astype(np.uint8))
    return folder


def save_picture(path: Path, pixels: Any) -> None:
    """Write a picture and its caption."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    path.with_suffix(".txt").write_text(f"a picture of a {path.parent.name}\n")


def small_run(method: str, steps: int, **fields: Any) -> Config:
    """Return a small run of a method, with some of the objective's fields changed."""
    method, small = split_name(method)
    if "classes" in small:
        small = small | {"classes": 0}  # as many as there are kinds
    return small_run_of(find_method(method)(**(small | fields)), steps)


def small_run_of(objective: Any, steps: int, **settings: Any) -> Config:
    """Return a small run of an objective."""
    adaptive = objective.name in ADAPTIVE
    chosen: Settled = {
        "encoder": "resnet-tiny",
        "image_size": SIDE,
        "batch": 16,
        "steps": steps,
        "optimizer": "adamw" if adaptive else "sgd",
        "lr": 2e-3 if adaptive else 0.05,
        "lr_scaling": "none",
        "warmup": 10,
        "weight_decay": 1e-4,
        "clip": 5.0,
        "text_width": 16,
        "text_depth": 1,
        "text_heads": 2,
        "vocabulary": 50,
        "context": 8,
        "threads": 1,
        "device": "cpu",
        "save_every": 10**6,
        "log_every": 5,
        "monitor_share": 0.0,
    }
    if needs_patches(objective):
        chosen["encoder"] = "vit-nano/4"
    return Config(objective.name, objective, TrainingSettings(**(chosen | settings)))


def train_and_examine(config: Config, data: Path, run: Path) -> Diagnosis:
    """Train, die of it if so be, and return what the doctor says of the folder."""
    try:
        train(config, str(data), run)
    except NotFiniteError:
        assert examine(run).step > 0
    return examine(run)


class NoCentre(DINO):
    """DINO whose loss forgets its centre."""

    def loss(self, inputs: LossInputs) -> BatchRows:
        zero = {"centre": torch.zeros_like(inputs.state["centre"])}
        return super().loss(dataclasses.replace(inputs, state=zero))


class NoStop(SimSiam):
    """SimSiam with gradient into its targets."""

    def loss(self, inputs: LossInputs) -> BatchRows:
        p, z = (nn.functional.normalize(inputs.student[name], dim=-1) for name in ("p", "z"))
        return {"loss": -(p * z.flip(1)).sum(dim=-1).mean()}


class NoPredictor(SimSiam):
    """SimSiam without its predictor."""

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        return {**super().heads(widths), "predictor": nn.Identity()}


class NoPredictorByol(BYOL):
    """BYOL without its predictor."""

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        return {**super().heads(widths), "predictor": nn.Identity()}


class NoNorm(SimCLR):
    """SimCLR that compares raw dot products."""

    def loss(self, inputs: LossInputs) -> BatchRows:
        z = inputs.student["z"].transpose(0, 1).flatten(0, 1)
        own = torch.eye(len(z), dtype=torch.bool)
        logits = (z @ z.mT / self.temperature).masked_fill(own, -torch.inf)
        other = torch.arange(len(z)).roll(len(z) // 2)
        return {"loss": nn.functional.cross_entropy(logits, other)}


class LoosePrototypes(SwAV):
    """SwAV whose prototypes have any length."""

    def state(self) -> tuple[Declaration, ...]:
        return tuple(item for item in super().state() if not isinstance(item, UnitRows))


@contextmanager
def aliased_teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every EMA teacher share the student's memory."""

    def share(self: Network, names: tuple[str, ...]) -> Network:
        return Network({name: self.parts[name] for name in names})

    with monkeypatch.context() as patch:
        patch.setattr(Network, "copy_frozen", share)
        yield


@contextmanager
def early_queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Push keys into the queue as soon as the teacher has made them."""
    from twinlens.training.loop.gradients import Differentiator
    from twinlens.training.objective import Batch

    run_teacher = Differentiator._teacher_rows

    def push_early(self: Differentiator, batch: Batch) -> BatchRows:
        rows = run_teacher(self, batch)
        for queue in self.state.queues:
            self.state._push(queue, rows[queue.source])
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(Differentiator, "_teacher_rows", push_early)
        yield


@contextmanager
def frozen_encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cut the gradient above the encoder."""
    from twinlens.training.encoders.resnet import ResNet

    forward = ResNet.forward

    def detached(self: ResNet, images: Tensor) -> Tensor:
        return forward(self, images).detach()

    with monkeypatch.context() as patch:
        patch.setattr(ResNet, "forward", detached)
        yield
