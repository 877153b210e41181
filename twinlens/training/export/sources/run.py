"""RUN folder of `twinlens train`: its last or best checkpoint without heads, as evaluated."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from twinlens.bundle.class_head import ClassHead
from twinlens.bundle.model_card import ModelCard
from twinlens.training.data.tokens import text_spec
from twinlens.training.encoders.vit import VisionTransformer
from twinlens.training.export.description import (
    IMAGE_FILE,
    AttentionMap,
    Description,
    ImageTower,
    Similarity,
    TextTower,
)
from twinlens.training.export.provenance import describe_checkpoint
from twinlens.training.export.sources import SourceOptions
from twinlens.training.runs.checkpoints import WEIGHTS
from twinlens.training.runs.run import EVALUATION, TrainedRun, image_spec, open_run

HEAD = "labels"  # served name of its classifier


def load(rest: str, options: SourceOptions) -> Description:
    """Return the encoder of the run in the folder `rest`."""
    run = open_run(Path(rest), best=options.best)
    spec = dataclasses.replace(image_spec(run.config.settings), file=IMAGE_FILE)
    return Description(
        name=options.name or f"{run.config.method}-{run.config.settings.encoder}".replace("/", "-"),
        image=ImageTower(run.towers["image"], spec, attention=find_attention(run)),
        text=_text_tower(run) if "text" in run.towers else None,
        similarity=read_similarity(run.learned),
        templates=options.templates or ("{}",),
        provenance=describe_run(run),
        head=read_head(run),
        card=write_card(run.data),
    )


def read_head(run: TrainedRun) -> ClassHead | None:
    """Return the classifier head of a fine-tuned encoder."""
    if run.classes is None:
        return None
    rows = nn.functional.normalize(run.classes, dim=1)
    return ClassHead(HEAD, tuple(run.data["classes"]), rows.numpy())


def write_card(data: Mapping[str, Any]) -> ModelCard:
    """Return the model card of a run: the encoder is for images like its training data."""
    return ModelCard(
        domain="images like its training data",
        training_data=f"{data['count']:,} images, fingerprint {data['fingerprint'][:12]}",
    )


def describe_run(run: TrainedRun) -> dict[str, Any]:
    """Return where the encoder comes from: method, settings, data, checkpoint, evaluation."""
    config = json.loads(run.config.to_json())
    measured = run.folder / EVALUATION
    return {
        **config,
        "steps": run.step,
        "data": {key: run.data[key] for key in ("count", "fingerprint")},
        "checkpoint": describe_checkpoint(run.checkpoint / f"{WEIGHTS}.safetensors"),
        "chosen": run.checkpoint.name,
        "evaluation": json.loads(measured.read_text()) if measured.is_file() else None,
    }


def read_similarity(learned: Mapping[str, float]) -> Similarity:
    """Return how scores follow from cosines, from the learned scale and bias of the loss."""
    if "bias" in learned:
        return Similarity("sigmoid", learned["scale"], learned["bias"])
    return Similarity("softmax", learned["scale"]) if "scale" in learned else Similarity()


def find_attention(run: TrainedRun) -> AttentionMap | None:
    """Return the class token's attention, if the image tower is our own transformer."""
    tower = run.image_encoder
    if not isinstance(tower, VisionTransformer):
        return None
    side = run.config.settings.image_size // tower.patch
    return AttentionMap(ClassAttention(tower), tower.heads, side, side)


class ClassAttention(nn.Module):
    """The class token's attention to each patch in the last layer: (n, heads, rows, columns)."""

    def __init__(self, tower: VisionTransformer) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: Tensor) -> Tensor:
        """Return one map per head, each with sum 1."""
        maps: Tensor = self.tower.look(images)
        return maps


def _text_tower(run: TrainedRun) -> TextTower:
    cuts = bool(getattr(run.text_encoder, "cuts", True))
    spec = text_spec(run.config.settings, cuts=cuts)
    source = run.folder / spec.tokenizer

    def write(target: Path) -> None:
        shutil.copyfile(source, target)

    return TextTower(run.towers["text"], spec, write, padding_reason=spec.padding_reason)
