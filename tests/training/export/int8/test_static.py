"""int8 convolutions of a small ResNet, which dynamic quantisation cannot reach."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import numpy_helper
from PIL import Image

import twinlens
from twinlens.bundle.manifest import ImageSpec
from twinlens.bundle.store import read_manifest
from twinlens.training.export import Description, ImageTower, export_encoder, variants
from twinlens.training.export.int8.calibration import draw_textures
from twinlens.training.export.int8.dynamic import write_dynamic
from twinlens.training.export.int8.static import has_mostly_convolutions, list_first_nodes

SPEC = ImageSpec("image.onnx", 32, 32, "shortest", 32, "bicubic", (0.5,) * 3, (0.25,) * 3)


class Notes:
    """A progress that keeps its notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """A ResNet-18 at 32 pixels whose normalisations have seen pictures."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=0, zero_init_last=False)
    pixels = torch.rand(64, 3, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model((pixels - 0.5) / 0.25)
    return model.eval()


@pytest.fixture(scope="module")
def notes() -> Notes:
    return Notes()


@pytest.fixture(scope="module")
def bundle(
    network: torch.nn.Module, notes: Notes, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("resnet") / "bundle"
    description = Description("resnet", image=ImageTower(network, SPEC))
    export_encoder(description, out, precisions=("int8",), progress=notes)
    return out


def load_graph(bundle: Path, name: str) -> onnx.GraphProto:
    return onnx.load(str(bundle / name)).graph


def test_the_convolutions_are_int8_and_their_ranges_are_stored(bundle: Path) -> None:
    graph = load_graph(bundle, "image.int8.onnx")
    weights = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 20
    whole = [c for c in convolutions if c.input[1] in made]
    assert len(whole) >= 14  # at most the first six are left in fp32
    for convolution in whole:
        stored = made[convolution.input[1]]
        assert stored.op_type == "DequantizeLinear"
        assert weights[stored.input[0]].dtype == np.int8
        channels = weights[stored.input[0]].shape[0]
        assert weights[stored.input[1]].shape == (channels,)  # a scale for each
        ranges = made[convolution.input[0]]
        assert ranges.op_type == "DequantizeLinear"
        assert float(weights[ranges.input[1]]) > 0
        assert weights[ranges.input[2]].dtype == np.uint8


def test_the_int8_bundle_keeps_the_embeddings_and_is_a_quarter_of_the_size(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    row = next(v for v in manifest.variants if v.precision == "int8")
    assert variants.LEAST_CONVOLUTION_COSINE <= row.cosine < 1
    sizes = {entry.path: entry.bytes for entry in manifest.files}
    assert sizes["image.int8.data"] < 0.3 * sizes["image.data"]
    plain, whole = (
        twinlens.open_bundle(bundle, precision=precision, device="cpu", threads=1)
        for precision in ("fp32", "int8")
    )
    assert whole.check().image_cosine == pytest.approx(row.cosine, abs=2e-3)
    pictures = list(draw_textures().judge)
    cosines = (plain.embed_images(pictures) * whole.embed_images(pictures)).sum(1)
    assert cosines.mean() >= variants.LEAST_MEAN_COSINE


def test_dynamic_quantisation_reaches_none_of_it(bundle: Path, tmp_path: Path) -> None:
    assert has_mostly_convolutions(bundle / "image.onnx")
    assert not write_dynamic(bundle / "image.onnx", tmp_path / "int8.onnx")


def test_the_manifest_and_the_output_tell_which_pictures_calibrated(
    bundle: Path, notes: Notes
) -> None:
    described = read_manifest(bundle).provenance["calibration"]["image"]
    assert described == draw_textures().describe()
    (line,) = [line for line in notes.lines if "of its speed" in line]
    assert "mean cosine 0.99" in line
    assert "drawn textures" in line


def test_a_folder_of_pictures_calibrates_and_sets_other_ranges(
    network: torch.nn.Module, bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(12):
        pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 40)).save(folder / f"{i}.png")
    description = Description("resnet", image=ImageTower(network, SPEC))
    out = tmp_path / "bundle"
    export_encoder(description, out, precisions=("int8",), calibrate=folder, progress=Notes())
    manifest = read_manifest(out)
    assert manifest.provenance["calibration"]["image"]["pictures"] == "folder photos"
    hashes = [
        {entry.path: entry.sha256 for entry in read_manifest(place).files}
        for place in (bundle, out)
    ]
    assert hashes[0]["image.data"] == hashes[1]["image.data"]
    assert hashes[0]["image.int8.onnx"] != hashes[1]["image.int8.onnx"]


def test_an_int8_that_moves_embeddings_too_far_is_not_offered_and_the_output_says_why(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "LEAST_MEAN_COSINE", 1.1)
    notes = Notes()
    description = Description("resnet", image=ImageTower(network, SPEC))
    manifest = export_encoder(description, tmp_path / "b", precisions=("int8",), progress=notes)
    assert [variant.precision for variant in manifest.variants] == ["fp32"]
    assert "calibration" not in manifest.provenance
    assert {entry.path for entry in manifest.files} == {
        "image.onnx", "image.data", "similarity.onnx", "golden.npz",
    }  # fmt: skip
    tried = [line for line in notes.lines if line.endswith("too far")]
    assert [
        next(key for key in ("no convolution", "first 3", "first 6") if key in line)
        for line in tried
    ] == ["no convolution", "first 3", "first 6"]
    assert any("int8 dropped" in line and "--calibrate FOLDER" in line for line in notes.lines)


def test_what_follows_a_convolution_left_in_fp32_is_left_with_it(bundle: Path) -> None:
    names = list_first_nodes(bundle / "image.onnx", 3)
    kinds = {node.name: node.op_type for node in load_graph(bundle, "image.onnx").node}
    counted = Counter(kinds[name] for name in names)
    assert counted["Conv"] == 3
    assert counted["Relu"] >= 2
