"""Every method in a size that a test can afford, for the standing proofs."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.loop.loop import train
from twinlens.training.nn.network import Network
from twinlens.training.nn.teachers import TeacherSettings, Teaching
from twinlens.training.nn.visual_tokenizer import Codes
from twinlens.training.objective import Batch, Captions, Locked, Objective
from twinlens.training.objectives import METHODS, find_method
from twinlens.training.objectives.distill import Distill
from twinlens.training.objectives.simclr import SimCLR
from twinlens.training.runs.assembly import build_network
from twinlens.training.runs.teachers import learn_from
from twinlens.training.seeds import generator
from twinlens.training.views.blends import Blends
from twinlens.training.views.crops import Crops
from twinlens.training.views.lab import Greying
from twinlens.training.views.masks import Masks, draw_masks
from twinlens.training.views.noise import Noise
from twinlens.training.views.tiles import Puzzle, draw_puzzles

SIDE = 16
PATCH = 4
CLASSES = 3
VOCABULARY = 50
TINY_DINO: dict[str, Any] = {
    "hidden": 16,
    "narrow": 8,
    "prototypes": 12,
    "frozen_epochs": 0.0,
    "local": Crops(2, size_ratio=0.5, scale_min=0.1, scale_max=0.4),
}
SMALL: dict[str, dict[str, Any]] = {
    "simclr": {"hidden": 16, "dim": 8},
    "moco": {"hidden": 16, "dim": 8, "queue": 24},
    "mocov3": {"hidden": 16, "dim": 8},
    "byol": {"hidden": 16, "dim": 8},
    "supcon": {"hidden": 16, "dim": 8},
    "dino": {
        "hidden": 16,
        "narrow": 8,
        "prototypes": 12,
        "frozen_epochs": 0.0,
        "local": Crops(2, size_ratio=0.5, scale_min=0.1, scale_max=0.4),
    },
    "simsiam": {"hidden": 16, "dim": 8, "bottleneck": 4},
    "barlow": {"hidden": 16, "dim": 8},
    "vicreg": {"hidden": 16, "dim": 8},
    "swav": {
        "hidden": 16,
        "dim": 8,
        "prototypes": 12,
        "queue": 16,
        "frozen_epochs": 0.0,
        "local": Crops(2, size_ratio=0.5, scale_min=0.1, scale_max=0.4),
    },
    "margin": {"hidden": 16, "dim": 8},
    "triplet": {"hidden": 16, "dim": 8},
    "rotation": {},
    "jigsaw": {"hidden": 16, "narrow": 8, "orders": 12},
    "context": {"hidden": 16},
    "colorize": {"bin_side": 40.0, "width": 8, "layers": 2},
    "autoencoder": {"dim": 8, "width": 8, "layers": 2},
    "devise": {"dim": 8},
    "cpc": {"dim": 8},
    "mae": {"width": 16, "depth": 1, "attention_heads": 2},
    "simmim": {},
    "beit": {"size": 12, "tokenizer_steps": 3},
    "ibot": TINY_DINO,
    "dinov2": TINY_DINO,
    "clip": {"dim": 8},
    "siglip": {"dim": 8},
    "lejepa": {"hidden": 16, "dim": 8, "directions": 6, "local": TINY_DINO["local"]},
    "finetune": {"classes": CLASSES, "blends": Blends(mixup=0.4, cutmix=1.0, share=0.8)},
    "distill": {"teachers": "bundle"},
    "mobileclip": {"teachers": "bundle", "dim": 8},
}
ALL = sorted(METHODS)


@functools.cache
def teachers_of(kind: str) -> TeacherSettings:
    """Return teachers that a test can ask: the bundle that ships, or a run with patch tokens."""
    sources = "builtin" if kind == "bundle" else str(train_teacher())
    config = learn_from(Config("distill", Distill(), TrainingSettings()), sources)
    found: TeacherSettings = dataclasses.replace(config.objective.teachers, views=2)
    return found


def train_teacher() -> Path:
    """Return a run of a tiny vit, whose patch tokens can teach."""
    folder = Path(tempfile.mkdtemp(prefix="teacher-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = TrainingSettings(
        encoder="vit-nano/4", image_size=SIDE, batch=4, steps=1, device="cpu", doctor=False
    )
    objective = SimCLR(hidden=16, dim=8)
    train(
        Config("simclr", objective, settings), str(write_images(folder / "data", 8)), folder / "run"
    )
    return folder / "run"


# Other losses of a method, under the same proofs: its name, and what is set.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip-negatives": ("clip", {"hard_negatives": 2}),
    "autoencoder-denoising": ("autoencoder", {"noise": "masking", "amount": 0.3}),
    "clip-locked": ("clip", {"locked": True}),
    "siglip-locked": ("siglip", {"locked": True}),
    "distill-tokens": ("distill", {"teachers": "tokens", "token_weight": 0.5}),
    "dinov2-sinkhorn": ("dinov2", {"centring": "sinkhorn"}),
}
PROVEN = [*ALL, *VARIANTS]


def split_name(name: str) -> tuple[str, dict[str, Any]]:
    """Return the method of a name in `PROVEN`, and its small size with what the variant sets."""
    method, fields = VARIANTS.get(name, (name, {}))
    chosen = SMALL[method] | fields
    if isinstance(chosen.get("teachers"), str):
        chosen |= {"teachers": teachers_of(chosen["teachers"])}
    return method, chosen


def is_coupled(name: str) -> bool:
    """Tell whether a loss compares the images of a batch."""
    return find_method(split_name(name)[0]).coupled


def small_config(name: str, **settings: Any) -> Config:
    """Return a method with narrow heads on a tiny encoder."""
    method, fields = split_name(name)
    objective = find_method(method)(**fields)
    chosen: dict[str, Any] = {
        "encoder": "vit-nano/4",
        "image_size": SIDE,
        "batch": 8,
        "steps": 4,
        "lr": 0.05,
        "lr_scaling": "none",
        "text_width": 16,
        "text_depth": 1,
        "text_heads": 2,
        "vocabulary": VOCABULARY,
        "context": 8,
        "threads": 1,
        "device": "cpu",
    }
    chosen |= settings
    own = chosen["encoder"].startswith("resnet")
    if own and needs_patches(objective):
        chosen["encoder"] = f"vit-nano/{PATCH}"
    return Config(method, objective, TrainingSettings(**chosen))


def needs_patches(objective: Objective) -> bool:
    """Tell whether a method hides or teaches patches, which only a vit has."""
    teaching = objective.find_extra(Teaching)
    return objective.find_extra(Masks) is not None or (teaching is not None and teaching.tokens)


def small_network(config: Config, *, norms: bool = True) -> Network:
    """Return the network of a config; without `norms`, one whose rows never see each other."""
    net = build_network(config, vocabulary=VOCABULARY)
    if not norms:
        for parent in list(net.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.modules.batchnorm._BatchNorm):
                    setattr(parent, name, nn.Identity())
    return net


def small_batch(config: Config, n: int, dtype: torch.dtype, seed: int = 0) -> Batch:
    """Return random views, labels and tokens."""
    draws = generator(seed, 1)
    views = {}
    for name, crops in config.objective.views().items():
        side = crops.side(SIDE)
        shape = (n, crops.count, 3, side, side)
        views[name] = torch.randn(shape, generator=draws).to(dtype)
    tokens = torch.randint(3, VOCABULARY, (n, 6), generator=draws)
    tokens[:, 4:] *= torch.randint(0, 2, (n, 1), generator=draws)  # some texts are shorter
    tokens[: n // 2, 5:] = 0  # and those of a first rank are shorter than those of a second
    labels = torch.arange(n) % CLASSES
    extra = {"labels": labels, "tokens": tokens}
    captions = config.objective.find_extra(Captions)
    if captions is not None and captions.negatives:
        wrong = torch.randint(3, VOCABULARY, (n, captions.negatives, 5), generator=draws)
        wrong[: n // 2, :, 4:] = 0
        extra["negatives"] = wrong
    if (masks := config.objective.find_extra(Masks)) is not None:
        cells = SIDE // PATCH
        extra["mask"] = draw_masks(draws, masks, (n, views["global"].shape[1], cells, cells))
    if (codes := config.objective.find_extra(Codes)) is not None:
        extra["codes"] = torch.randint(codes.size, (n, extra["mask"].shape[2]), generator=draws)
    extra |= small_pretexts(config.objective, n, dtype, draws)
    if config.objective.find_extra(Blends) is not None:
        extra["other"] = torch.randint(CLASSES, (n,), generator=draws)
        extra["kept"] = torch.rand(n, generator=draws).to(dtype)
    if (teaching := config.objective.find_extra(Teaching)) is not None:
        extra |= small_answers(teaching, n, dtype, draws)
    if config.objective.find_extra(Locked) is not None:
        width = int(small_network(config)["image"].width)  # type: ignore[arg-type]
        extra["locked"] = torch.randn(n, width, generator=draws).to(dtype)
        views = {}
    return Batch(views, extra)


def small_pretexts(
    objective: Objective, n: int, dtype: torch.dtype, draws: torch.Generator
) -> dict[str, torch.Tensor]:
    """Return what the pretext tasks ask about, at random."""
    extra: dict[str, torch.Tensor] = {}
    if (puzzle := objective.find_extra(Puzzle)) is not None:
        extra |= draw_puzzles(draws, puzzle, n)
    if (greying := objective.find_extra(Greying)) is not None:
        cells = (SIDE // greying.cell) ** 2
        extra["colours"] = (30 * torch.randn(n, cells, 2, generator=draws)).to(dtype)
    if objective.find_extra(Noise) is not None:
        extra["clean"] = torch.randn(n, 3, SIDE, SIDE, generator=draws).to(dtype)
    return extra


def small_answers(
    teaching: Teaching, n: int, dtype: torch.dtype, draws: torch.Generator
) -> dict[str, torch.Tensor]:
    """Return random answers of teachers."""
    shapes = {"teacher": (n, teaching.settings.dim)}
    if teaching.texts:
        shapes["teacher_text"] = (n, teaching.settings.dim)
    found = {name: torch.randn(shape, generator=draws).to(dtype) for name, shape in shapes.items()}
    if teaching.tokens:
        shape = n, 4, teaching.settings.token_dim  # a grid of 2 x 2, another than the student's
        found["teacher_tokens"] = torch.randn(shape, generator=draws).to(dtype)
    return found


def write_images(folder: Path, n: int, *, side: int = SIDE, captions: bool = True) -> Path:
    """Write n small images of CLASSES colours into class folders, each with a caption."""
    draws = np.random.default_rng(0)
    for index in range(n):
        label = index % CLASSES
        pixels = draws.integers(0, 90, (side, side, 3), dtype=np.uint8)
        pixels[..., label] += 120
        place = folder / ["red", "green", "blue"][label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index:03}.png")
        if captions:
            (place / f"{index:03}.txt").write_text(f"a {place.name} square number {index}\n")
    return folder


def gradients(net: Network) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the gradient of each parameter that is not frozen."""
    for name, parameter in net.parts.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, f"{name} is frozen and got a gradient"
            continue
        assert parameter.grad is not None, f"{name} got no gradient"
        yield name, parameter.grad


def with_settings(config: Config, **settings: Any) -> Config:
    """Return the config with other settings."""
    return dataclasses.replace(config, settings=dataclasses.replace(config.settings, **settings))
