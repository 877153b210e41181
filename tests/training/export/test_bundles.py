"""What an exported bundle holds: shared weights, no trace of the machine, every variant, facts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import timm
import torch

import twinlens
from twinlens.bundle.model_card import ModelCard, read_card
from twinlens.bundle.samples import golden_images
from twinlens.bundle.store import compute_revision, read_manifest
from twinlens.training.export import Description, export_encoder
from twinlens.training.export import variants as variants_module
from twinlens.training.export.sources import timm as timm_source

if TYPE_CHECKING:
    from tests.training.export.conftest import Exported


@pytest.fixture(scope="module")
def small() -> Description:
    """A vision transformer of two blocks."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=0, depth=2)
    described = timm_source.describe_model(model, name="small", provenance={"method": "timm"})
    return dataclasses.replace(described, card=ModelCard(domain="tests"))


@pytest.fixture(scope="module")
def small_bundle(small: Description, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "bundle"
    export_encoder(small, out, precisions=("fp16", "int8"))
    return out


def test_the_same_model_exported_again_has_the_same_revision(
    small: Description, small_bundle: Path, tmp_path: Path
) -> None:
    again = export_encoder(small, tmp_path / "bundle", precisions=("fp16", "int8"))
    before = {entry.path: entry.sha256 for entry in read_manifest(small_bundle).files}
    assert {entry.path: entry.sha256 for entry in again.files} == before
    assert again.revision == read_manifest(small_bundle).revision


def test_half_precision_keeps_inputs_and_outputs_and_nearly_its_embeddings(
    small_bundle: Path,
) -> None:
    (row,) = [v for v in read_manifest(small_bundle).variants if v.precision == "fp16"]
    assert 0.999 < row.cosine <= 1
    graph = onnx.load(str(small_bundle / row.file), load_external_data=False).graph
    kinds = {
        value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.output]
    }
    assert kinds == {"pixels": onnx.TensorProto.UINT8, "embedding": onnx.TensorProto.FLOAT}
    halves = [w for w in graph.initializer if w.data_type == onnx.TensorProto.FLOAT16]
    assert len(halves) > 10
    encoder = twinlens.open_bundle(small_bundle, precision="fp16", device="cpu", threads=1)
    assert encoder.check().image_cosine == pytest.approx(row.cosine, abs=1e-3)


def test_the_attention_graph_adds_no_weights_of_its_own(small_bundle: Path) -> None:
    graphs = [
        onnx.load(str(small_bundle / name), load_external_data=False)
        for name in ("image.onnx", "attention.onnx")
    ]
    places = [
        {tuple(sorted((e.key, e.value) for e in w.external_data)) for w in g.graph.initializer}
        for g in graphs
    ]
    assert places[1] <= places[0]
    assert {value for place in places[0] for key, value in place if key == "location"} == {
        "image.data"
    }


def test_no_graph_contains_paths_of_the_machine_that_wrote_it(exported_vit: Exported) -> None:
    for path in exported_vit.folder.glob("*.onnx"):
        content = path.read_bytes()
        assert b"site-packages" not in content
        assert b".py" not in content
        assert len(content) < 400_000


def test_an_int8_tower_that_moves_embeddings_too_far_is_dropped_with_a_note(
    small: Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Notes:
        lines: list[str] = []  # noqa: RUF012

        def stage(self, text: str) -> None:
            pass

        def note(self, text: str) -> None:
            self.lines.append(text)

    monkeypatch.setattr(variants_module, "LEAST_COSINE", 1.1)
    manifest = export_encoder(
        small, tmp_path / "bundle", precisions=("int8",), attention=False, progress=Notes()
    )
    assert [variant.precision for variant in manifest.variants] == ["fp32"]
    assert any("int8 dropped: its cosine to fp32 is" in line for line in Notes.lines)
    names = {entry.path for entry in manifest.files}
    assert names == {"image.onnx", "image.data", "similarity.onnx", "golden.npz"}
    assert manifest.attention is None


def test_the_manifest_tells_where_the_encoder_came_from(small_bundle: Path) -> None:
    provenance = read_manifest(small_bundle).provenance
    assert provenance["method"] == "timm"
    assert {"twinlens", "torch", "onnx", "timm"} <= provenance["versions"].keys()


def test_the_card_goes_into_the_manifest_and_not_into_the_revision(
    small: Description, small_bundle: Path
) -> None:
    manifest = read_manifest(small_bundle)
    assert read_card(manifest) == small.card
    assert compute_revision(dataclasses.replace(manifest, extensions={})) == manifest.revision


def test_the_golden_pictures_never_change() -> None:
    first, again = golden_images(), golden_images()
    assert first == again
    assert len({len(image) for image in first}) == len(first)
    assert sum(map(len, first)) < 100_000


def test_zero_shot_with_the_exported_templates_gives_shares(exported_vit: Exported) -> None:
    encoder = twinlens.open_bundle(exported_vit.folder, device="cpu", threads=1)
    scores = encoder.zero_shot(golden_images()[:2], ["a cat", "a dog", "a street"])
    assert scores.shape == (2, 3)
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    assert len(exported_vit.manifest.templates) == 7
