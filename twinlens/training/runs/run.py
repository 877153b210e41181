"""A run on disk: settings, data card, log and checkpoints; and how to open one again.

RUN/config.json        the resolved settings
RUN/data.json          where the data was, its fingerprint, labels, images left out
RUN/bad_images.jsonl   each image that was left out, and why
RUN/tokenizer.json     two-tower methods: the tokenizer
RUN/log.jsonl          numbers by step
RUN/checkpoints/       step-N: weights, state, optimizer; best-N: weights and state by held-out data
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from twinlens.bundle.manifest import ImageSpec
from twinlens.errors import ConflictError, NotFoundError
from twinlens.training.config import Config, TrainingSettings, build, differences
from twinlens.training.data.pixels import square_spec
from twinlens.training.data.tokens import CLIP, LEARNED, RunTokenizer
from twinlens.training.nn.lora import merge_adapters
from twinlens.training.nn.network import Network
from twinlens.training.nn.visual_tokenizer import FILE
from twinlens.training.objective import Objective
from twinlens.training.objectives import find_method
from twinlens.training.runs.assembly import open_network
from twinlens.training.runs.checkpoints import (
    BEST,
    LAST,
    STATE,
    WEIGHTS,
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
)
from twinlens.training.runs.logs import LOG, read_log

CONFIG, DATA, BAD, CHECKPOINTS = "config.json", "data.json", "bad_images.jsonl", "checkpoints"
EVALUATION = "evaluation.json"
TOKENIZERS = (CLIP, LEARNED, FILE)  # written before the first step


@dataclass(frozen=True)
class TrainedRun:
    """A finished (or paused) run: its towers without the heads, in eval mode on the CPU."""

    folder: Path
    config: Config
    data: Mapping[str, Any]
    step: int
    towers: Mapping[str, nn.Module]  # "image", perhaps "text": to embeddings, not yet normalised
    checkpoint: Path
    image_encoder: nn.Module  # the image tower alone, before any projection
    text_encoder: nn.Module | None  # the text tower alone
    learned: Mapping[str, float]  # learned numbers of the loss: `scale` and `bias`, if it has them
    classes: Tensor | None = None  # rows (classes, width) of a fine-tuned encoder's head


def read_config(folder: Path) -> Config:
    """Return the settings of the run in `folder`."""
    path = folder / CONFIG
    if not path.is_file():
        raise NotFoundError(f"{folder} is not a training run: it has no {CONFIG}")
    raw = json.loads(path.read_text(encoding="utf-8"))
    objective = build(find_method(raw["method"]), raw["objective"])
    return Config(raw["method"], objective, build(TrainingSettings, raw["settings"]))


def open_run(folder: Path, *, best: bool = False) -> TrainedRun:
    """Return what the latest checkpoint of a run serves, or the best one by held-out data."""
    config = read_config(folder)
    found = find_served(folder, best=best)
    checkpoint = load_checkpoint(found)
    objective = config.objective
    has_text = "text" in objective.paths
    tokenizer = RunTokenizer(config.settings, folder) if has_text else None
    net = open_network(config, tokenizer, released=False)
    net.parts.load_state_dict(served_weights(config, checkpoint))
    net.eval().requires_grad_(False)
    towers, shared = serve_towers(objective, net), objective.shared(net)
    data = json.loads((folder / DATA).read_text(encoding="utf-8"))
    return TrainedRun(
        folder=folder,
        config=config,
        data=data,
        step=int(checkpoint.facts["step"]),
        checkpoint=found,
        towers=towers,
        image_encoder=net["image"],
        text_encoder=net["text"] if has_text else None,
        learned={name: float(value) for name, value in shared.items() if value.ndim == 0},
        classes=shared.get("classes"),
    )


def find_served(folder: Path, *, best: bool) -> Path:
    """Return the checkpoint of a run that is served."""
    found = find_checkpoint(folder / CHECKPOINTS, BEST if best else LAST)
    if found is None and best:
        raise NotFoundError(
            f"{folder} has no best checkpoint: it was not validated while it trained. Train with"
            " --eval DATA, or leave --best out",
            field="--best",
        )
    if found is None:
        raise NotFoundError(f"{folder} has no checkpoint yet; train it further first")
    return found


def serve_towers(
    objective: Objective, net: Network, teacher: Network | None = None
) -> dict[str, nn.Module]:
    """Return the served towers: parts of the network, or the teacher's where it has them."""

    def find(part: str) -> nn.Module:
        return teacher[part] if teacher is not None and part in teacher else net[part]

    return {side: nn.Sequential(*map(find, path)) for side, path in objective.paths.items()}


def image_spec(settings: TrainingSettings) -> ImageSpec:
    """Return how an image is preprocessed for evaluation, export and the server."""
    return dataclasses.replace(
        square_spec(settings.image_size),
        mean=settings.mean,
        std=settings.std,
        resize=settings.resize,
        resize_to=settings.resize_to or settings.image_size,
        interpolation=settings.interpolation,
        convert=settings.convert,
        crop=settings.crop_rounding,
    )


def served_weights(config: Config, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return all served weights: the teacher's where there is one, adapters merged."""
    weights = dict(checkpoint.tensors[WEIGHTS])
    if config.objective.served == "teacher":
        weights |= teacher_weights(checkpoint.tensors[STATE])
    if config.settings.lora:
        return merge_adapters(weights, config.settings.lora, config.settings.lora_alpha)
    return weights


def teacher_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the parts that have an EMA teacher: the teacher's."""
    prefix = "ema_teacher.parts."
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def prepare_folder(folder: Path, config: Config, data: Mapping[str, Any]) -> None:
    """Write the run's cards, or check that existing ones are equal.

    A run that was refused before its start, or failed before its first checkpoint, has nothing to
    lose: its folder then accepts other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CONFIG).is_file():
        _check_free(folder)
    elif not _is_void(folder):
        _check_same(folder, config, data)
        return
    else:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # a best one before the first step
        for name in TOKENIZERS:
            (folder / name).unlink(missing_ok=True)
    (folder / DATA).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (folder / CONFIG).write_text(config.to_json(), encoding="utf-8")


def _check_free(folder: Path) -> None:
    """Refuse a folder with other contents."""
    foreign = [path.name for path in folder.iterdir() if path.name not in TOKENIZERS]
    if foreign:
        raise ConflictError(
            f"{folder} exists and is not a training run (it holds {foreign[0]});"
            " choose another --out",
            field="--out",
        )


def _is_void(folder: Path) -> bool:
    """Tell whether a run left no checkpoint and, unless it failed, no log."""
    if find_checkpoint(folder / CHECKPOINTS) is not None:
        return False
    if not (folder / LOG).is_file():
        return True
    return any("not_finite" in row for row in read_log(folder))


def _check_same(folder: Path, config: Config, data: Mapping[str, Any]) -> None:
    before = read_config(folder)
    changed = differences(before.settings, config.settings)
    if before.method != config.method:
        changed = [f"method ({before.method} before, {config.method} now)"]
    else:
        changed += differences(before.objective, config.objective)
    if changed:
        raise ConflictError(
            f"{folder} holds a run with other settings: {'; '.join(changed)}."
            " Give the same settings to resume it, or another --out",
            field="--out",
        )
    known = json.loads((folder / DATA).read_text(encoding="utf-8"))
    if known["fingerprint"] != data["fingerprint"]:
        raise ConflictError(
            f"the data is not what {folder} was trained on: its fingerprint changed."
            " Give the same data, or another --out",
            field="DATA",
        )
    if known.get("held_out", {}).get("fingerprint") != data.get("held_out", {}).get("fingerprint"):
        raise ConflictError(
            f"the held-out data is not what {folder} was validated on: its fingerprint changed."
            " Give the same data, or another --out",
            field="--eval",
        )
