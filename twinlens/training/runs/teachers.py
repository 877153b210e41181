"""`teachers=SOURCE,...`: the encoders that a run distils, and the settings that describe them.

A SOURCE is a bundle (a folder, `builtin`, a ready model), a run, or weights as for `init`. What
must stay true: whatever a run needs of its teachers after its first step is in its settings, so
that it can be evaluated and exported without them; and a changed teacher makes another run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from twinlens.bundle.location import find_bundle
from twinlens.bundle.manifest import MANIFEST_NAME, ImageSpec, Manifest
from twinlens.bundle.store import read_manifest
from twinlens.errors import InputError, NotFoundError
from twinlens.training.config import Config, TrainingSettings
from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.nn.network import hash_weights
from twinlens.training.nn.teachers import TeacherSettings
from twinlens.training.objectives.simclr import SimCLR
from twinlens.training.runs.run import CONFIG, TrainedRun, image_spec, open_run
from twinlens.training.runs.starting import start_from
from twinlens.training.runs.towers import KINDS, open_towers

PLAIN_SCALE = 100.0  # CLIP's, for a teacher that has learned none


@dataclass(frozen=True)
class TeacherCard:
    """The facts of a teacher: its embedding, its preprocessing, and the identity of its weights."""

    dim: int
    spec: ImageSpec
    revision: str
    scale: float
    has_text: bool
    token_dim: int = 0  # width of its patch tokens; 0 = it has none


def split_sources(sources: str) -> list[str]:
    """Return the sources of `teachers`."""
    return [source.strip() for source in sources.split(",") if source.strip()]


def learn_from(config: Config, sources: str) -> Config:
    """Return the config with its teachers, and the settings that describe them."""
    kept = getattr(config.objective, "teachers", None)
    if not isinstance(kept, TeacherSettings):
        raise InputError(
            f"{config.method} has no teachers; distill and mobileclip have", field="teachers"
        )
    cards = [describe_teacher(source) for source in split_sources(sources)]
    found = dataclasses.replace(
        kept,
        sources=sources,
        dims=tuple(card.dim for card in cards),
        scales=tuple(card.scale for card in cards),
        sizes=tuple(card.spec.width for card in cards),
        revisions=tuple(card.revision for card in cards),
        texts=tuple(card.has_text for card in cards),
        token_dims=tuple(card.token_dim for card in cards),
    )
    objective = dataclasses.replace(config.objective, teachers=found)
    return dataclasses.replace(config, objective=objective)


def describe_teacher(source: str) -> TeacherCard:
    """Return the facts of a teacher; a bundle is not opened for it."""
    if is_trained(source):
        return _describe_run(open_teacher(source))
    manifest = _read_bundle(source)
    if manifest.image is None:
        raise InputError(f"teacher {source!r} has no image tower", field="teachers")
    return _card(
        source,
        TeacherCard(
            manifest.embedding_dim,
            manifest.image,
            manifest.revision,
            manifest.similarity.scale,
            manifest.text is not None,
        ),
    )


def is_trained(source: str) -> bool:
    """Tell whether a source is a run or weights, which torch runs; others are bundles."""
    return source.startswith(KINDS) or (Path(source) / CONFIG).is_file()


def open_teacher(source: str) -> TrainedRun:
    """Return a run as a teacher, or weights as a run of zero steps."""
    if not source.startswith(KINDS):
        return open_run(Path(source))
    config = start_from(Config("simclr", SimCLR(), TrainingSettings()), source)
    tower = open_towers(config, 0, 0, released=True).parts["image"].eval().requires_grad_(False)
    return TrainedRun(
        folder=Path(source),
        config=config,
        data={},
        step=0,
        towers={"image": tower},
        checkpoint=Path(source),
        image_encoder=tower,
        text_encoder=None,
        learned={},
    )


def find_tokens(run: TrainedRun) -> TokenTower | None:
    """Return the tower whose patch tokens are distilled, if any."""
    return run.image_encoder if isinstance(run.image_encoder, TokenTower) else None


@torch.no_grad()
def _describe_run(run: TrainedRun) -> TeacherCard:
    spec = image_spec(run.config.settings)
    shown = torch.zeros(2, 3, spec.height, spec.width)
    dim = int(run.towers["image"](shown).shape[1])
    tokens = find_tokens(run)
    weights = hash_weights(nn.ModuleDict(dict(run.towers)))
    seen = json.dumps(dataclasses.asdict(spec))
    return _card(
        str(run.folder),
        TeacherCard(
            dim,
            spec,
            hashlib.sha256(f"{weights} {seen}".encode()).hexdigest(),
            run.learned.get("scale", PLAIN_SCALE),
            "text" in run.towers,
            tokens.width if tokens is not None else 0,
        ),
    )


def _read_bundle(source: str) -> Manifest:
    folder = find_bundle(source)
    if not (folder / MANIFEST_NAME).is_file():
        raise NotFoundError(
            f"teacher {source!r} is neither a bundle nor a training run; give a folder of either,"
            " builtin, hf:OWNER/NAME, timm:NAME[/FILE] or open_clip:ARCH[/TAG or /FILE]",
            field="teachers",
        )
    return read_manifest(folder)


def _card(source: str, card: TeacherCard) -> TeacherCard:
    if card.spec.height != card.spec.width:
        raise InputError(
            f"teacher {source!r} takes pictures of {card.spec.width} x {card.spec.height} pixels;"
            " views are square",
            field="teachers",
        )
    return card
