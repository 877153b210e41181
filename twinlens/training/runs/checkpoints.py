"""Checkpoints: safetensors and JSON in a folder that is complete or absent.

A run has its LAST checkpoints, from which it resumes, and the BEST by held-out data, which is
served on request. Nothing is pickled. What must stay true: a checkpoint is written beside its place
and renamed, so that a crash or a full disk leaves the earlier ones untouched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from twinlens.disk import sync
from twinlens.errors import InputError, TwinlensError
from twinlens.training.distributed.sharding import placed_like, whole

WEIGHTS, STATE, OPTIMIZER, MONITORS = "weights", "state", "optimizer", "monitors"
ABOUT = "checkpoint.json"
LAST, BEST = "step", "best"  # kinds of checkpoint; a folder is named by its kind and step
_FORMER_PREFIX, _PREFIX = "twin.", "ema_teacher."  # names of the EMA teacher's tensors


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to resume: tensors by file, and facts (the step)."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    facts: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int, kind: str = LAST) -> Path:
    """Write the checkpoint of `facts["step"]`, then delete all but `keep` of its kind."""
    name = f"{kind}-{checkpoint.facts['step']:08d}"
    beside = folder / f".{name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        for part, tensors in checkpoint.tensors.items():
            save_file(_stored(tensors), beside / f"{part}.safetensors")
        (beside / ABOUT).write_text(json.dumps(dict(checkpoint.facts)) + "\n", encoding="utf-8")
        _flush(beside)
        place = folder / name
        if place.exists():  # the same step again, after a resume: equal by design
            shutil.rmtree(place)
        beside.rename(place)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk in its own words
        shutil.rmtree(beside, ignore_errors=True)
        last = find_checkpoint(folder)
        stands = f"the last good one is {last}" if last else "there is no earlier one"
        raise TwinlensError(
            f"cannot save checkpoint {name} in {folder}: {error}; {stands}."
            " Free some space and run the same command again",
            code="checkpoint_failed",
        ) from error
    others = [path for path in list_checkpoints(folder, kind) if path != place]
    for old in others[: max(0, len(others) + 1 - keep)]:
        shutil.rmtree(old)
    return place


def list_checkpoints(folder: Path, kind: str = LAST) -> list[Path]:
    """Return the complete checkpoints of a kind, oldest first."""
    return sorted(path for path in folder.glob(f"{kind}-*") if (path / ABOUT).is_file())


def find_checkpoint(folder: Path, kind: str = LAST) -> Path | None:
    """Return the latest complete checkpoint of a kind, or None."""
    found = list_checkpoints(folder, kind)
    return found[-1] if found else None


def load_facts(path: Path) -> dict[str, Any]:
    """Read the facts of a checkpoint back."""
    found: dict[str, Any] = json.loads((path / ABOUT).read_text(encoding="utf-8"))
    return found


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back."""
    try:
        facts = load_facts(path)
        tensors = {part.stem: load_file(part) for part in sorted(path.glob("*.safetensors"))}
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"checkpoint {path} cannot be read: {error}") from None
    return Checkpoint(tensors | {STATE: _rename_former_keys(tensors.get(STATE, {}))}, facts)


def optimizer_tensors(optimizer: torch.optim.Optimizer, net: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as `parameter name/slot`, gathered: all ranks must call."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in net.named_parameters()}
    found = {}
    for parameter, slots in optimizer.state.items():
        for slot, value in slots.items():
            if value is not None:
                found[f"{names[parameter]}/{slot}"] = whole(torch.as_tensor(value))
    return found


def restore_optimizer(
    optimizer: torch.optim.Optimizer, net: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Restore what `optimizer_tensors` returned."""
    parameters = dict(net.named_parameters())
    fused = bool(optimizer.defaults.get("fused"))
    for key, value in tensors.items():
        name, _, slot = key.rpartition("/")
        parameter = parameters[name]
        # Adam counts steps on the CPU unless it is fused; other state is placed as the parameter.
        if slot == "step":
            home = value.to(parameter.device) if fused else value
        else:
            home = placed_like(value, parameter)
        optimizer.state[parameter][slot] = home


def _rename_former_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state under today's names, whichever version wrote it."""
    return {
        _PREFIX + key.removeprefix(_FORMER_PREFIX) if key.startswith(_FORMER_PREFIX) else key: value
        for key, value in state.items()
    }


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous copies on the CPU: safetensors refuses shared memory."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _flush(folder: Path) -> None:
    """Flush the files to disk, so that the rename never precedes them."""
    for path in folder.iterdir():
        sync(path)
