"""Pulled models give the embeddings of transformers and open_clip: images 0.9999, texts 0.99999."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.bundle.pull.convert import PullOptions, write_pulled_bundle
from twinlens.bundle.pull.repository import FolderRepository
from twinlens.errors import BundleError

if TYPE_CHECKING:
    from tests.bundle.pull.oracles import Oracle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # tracing warns of every branch
]

IMAGES, TEXTS, QUANTISED = 0.9999, 0.99999, 0.99

# The function of `oracles` that writes each repository, and what it is told.
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("make_clip", {}),
    "clip without mask": ("make_clip", {"masked": False}),
    "clip without projection": ("make_clip", {"projected": False}),
    "clip in one graph": ("make_clip", {"fused": True}),
    "mobileclip's processor": ("make_clip", {"do_normalize": False, "resample": 2}),
    "siglip": ("make_siglip", {}),
    "siglip in one graph": ("make_siglip", {"fused": True}),
    "siglip 2": ("make_siglip", {"second": True}),
    "open_clip one by one": ("make_open_clip", {}),
    "dinov2": ("make_image_tower", {"kind": "dinov2"}),
    "dinov3": ("make_image_tower", {"kind": "dinov3"}),
    "vit": ("make_image_tower", {"kind": "vit"}),
    "convnext": ("make_image_tower", {"kind": "convnext"}),
    "sentences, mean": ("make_sentence_model", {}),
    "sentences, cls": ("make_sentence_model", {"pooling": "cls"}),
    "sentences, max": ("make_sentence_model", {"pooling": "max"}),
    "sentences, last": ("make_sentence_model", {"pooling": "last"}),
    "sentences, dense": ("make_sentence_model", {"dense": True}),
}
_SMALL_VIT = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
FULL: dict[str, tuple[str, dict[str, Any]]] = {
    "CLIP B/32": ("make_clip", {"config": {"projection_dim": 512}}),
    "SigLIP B/16": ("make_siglip", {"config": {"vision_config": {"image_size": 224}}}),
    "SigLIP 2 B/16": (
        "make_siglip",
        {"second": True, "config": {"vision_config": {"image_size": 224}}},
    ),
    "DINOv2 S/14": (
        "make_image_tower",
        {"kind": "dinov2", "config": {**_SMALL_VIT, "image_size": 518}},
    ),
}


def make(name: str, folder: Path) -> Oracle:
    """Write a repository; transformers is imported only where such a test runs."""
    pytest.importorskip("transformers", reason="the answers come from transformers")
    from tests.bundle.pull import oracles

    function, options = (SMALL | FULL)[name]
    oracle: Oracle = getattr(oracles, function)(folder, **options)
    return oracle


def pull(oracle: Oracle, out: Path, **options: Any) -> Encoder:
    write_pulled_bundle([FolderRepository(oracle.folder)], out, PullOptions(**options))
    encoder = open_bundle(out)
    encoder.check()
    return encoder


def quantise(folder: Path) -> None:
    """Add the quantised form beside every graph, as hub exporters name it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for path in list(folder.rglob("*.onnx")):
        target = path.with_name(f"{path.stem}_quantized.onnx")
        quantize_dynamic(path, target, weight_type=QuantType.QUInt8)


def assert_equal(encoder: Encoder, oracle: Oracle) -> None:
    if oracle.images is not None:
        found = encoder.embed_images(oracle.pictures)
        assert (found * oracle.images).sum(1).min() >= IMAGES
    if oracle.texts is not None:
        found = encoder.embed_texts(oracle.given)
        assert (found * oracle.texts).sum(1).min() >= TEXTS


@pytest.mark.parametrize("name", SMALL)
def test_a_pulled_model_gives_the_embeddings_of_its_own_library(name: str, tmp_path: Path) -> None:
    oracle = make(name, tmp_path)
    encoder = pull(oracle, tmp_path / "bundle")
    assert_equal(encoder, oracle)
    if name.endswith("in one graph"):
        assert encoder.manifest.similarity.scale == pytest.approx(oracle.scale, rel=1e-3)
        assert encoder.manifest.similarity.bias == pytest.approx(oracle.bias, abs=0.05)
    if "queries" in oracle.notes:
        found = encoder.embed_texts(oracle.given, input_type="search_query")
        assert (found * oracle.notes["queries"]).sum(1).min() >= TEXTS


@pytest.mark.parametrize("name", ["clip", "clip in one graph", "siglip", "dinov2"])
def test_a_quantised_file_becomes_a_variant_with_its_measured_cosine(
    name: str, tmp_path: Path
) -> None:
    oracle = make(name, tmp_path)
    quantise(oracle.folder)
    encoder = pull(oracle, tmp_path / "bundle", precisions=("fp32", "int8"))
    assert_equal(encoder, oracle)
    quantised = open_bundle(tmp_path / "bundle", precision="int8")
    quantised.check()
    assert oracle.images is not None
    found = quantised.embed_images(oracle.pictures)
    assert (found * oracle.images).sum(1).min() >= QUANTISED
    measured = [v.cosine for v in encoder.manifest.variants if v.precision == "int8"]
    assert measured and min(measured) >= QUANTISED and max(measured) < 1


@pytest.mark.parametrize("name", ["clip", "sentences, mean"])
def test_where_only_quantised_files_exist_they_are_the_reference(name: str, tmp_path: Path) -> None:
    oracle = make(name, tmp_path)
    quantise(oracle.folder)
    for path in oracle.folder.rglob("*.onnx"):
        if "_quantized" not in path.name:
            path.unlink()
    encoder = pull(oracle, tmp_path / "bundle")
    assert set(encoder.precisions.values()) == {"int8"}
    found = encoder.embed_texts(oracle.given)
    assert oracle.texts is not None
    assert (found * oracle.texts).sum(1).min() >= QUANTISED


@pytest.mark.parametrize("name", FULL)
def test_a_model_of_full_size_does_too(name: str, tmp_path: Path) -> None:
    oracle = make(name, tmp_path)
    assert_equal(pull(oracle, tmp_path / "bundle"), oracle)


@pytest.mark.parametrize("name", ["clip without projection", "sentences, dense"])
def test_verify_writes_the_cosine_to_transformers_into_the_manifest(
    name: str, tmp_path: Path
) -> None:
    encoder = pull(make(name, tmp_path), tmp_path / "bundle", verify=True)
    found = encoder.manifest.provenance["cosine_to_transformers"]
    towers = ["image", "text"] if "clip" in name else ["text"]
    assert sorted(found) == towers
    assert all(0.9999 <= cosine <= 1.00001 for cosine in found.values())


def test_verify_refuses_a_graph_that_is_not_the_models(tmp_path: Path) -> None:
    oracle = make("sentences, mean", tmp_path)
    pull(oracle, tmp_path / "right", verify=True)
    weights = oracle.folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4000:] = bytes(4000)
    weights.write_bytes(content)
    with pytest.raises(BundleError, match="differs from transformers"):
        pull(oracle, tmp_path / "wrong", verify=True)
    assert not (tmp_path / "wrong").exists()


def test_one_item_at_a_time_or_many_give_one_row(tmp_path: Path) -> None:
    oracle = make("open_clip one by one", tmp_path)
    encoder = pull(oracle, tmp_path / "bundle")
    together = encoder.embed_images(oracle.pictures)
    alone = np.concatenate([encoder.embed_images([picture]) for picture in oracle.pictures])
    np.testing.assert_allclose(together, alone, atol=1e-6)
