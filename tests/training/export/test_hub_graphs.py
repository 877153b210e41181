"""A transformers model without ONNX files becomes a bundle that answers as transformers does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinlens.bundle.encoder import open_bundle
from twinlens.bundle.pull.repository import FolderRepository
from twinlens.cli.bundle.source_names import find_weights
from twinlens.errors import InputError
from twinlens.training.export.hub_graphs import export_from_weights, trace_repository

pytestmark = pytest.mark.filterwarnings("ignore")  # tracing warns of every branch

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("make_clip", {}),
    "siglip": ("make_siglip", {}),
    "dinov2": ("make_image_tower", {"kind": "dinov2"}),
    "vit": ("make_image_tower", {"kind": "vit"}),
    "sentences": ("make_sentence_model", {}),
}


def make(name: str, folder: Path) -> Any:
    """Write a repository of weights alone: what an oracle has beside its graphs."""
    pytest.importorskip("transformers", reason="the answers come from transformers")
    from tests.bundle.pull import oracles

    function, options = CASES[name]
    oracle = getattr(oracles, function)(folder, **options)
    for path in oracle.folder.rglob("*.onnx"):
        path.unlink()
    if oracle.model is not None:
        oracle.model.save_pretrained(oracle.folder)
    return oracle


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_its_bundle_gives_the_embeddings_of_transformers(name: str, tmp_path: Path) -> None:
    oracle = make(name, tmp_path)
    source = find_weights(str(oracle.folder))
    assert source is not None
    before = (oracle.folder / "config.json").read_bytes()
    export_from_weights(source, tmp_path / "bundle", "", force=False)
    encoder = open_bundle(tmp_path / "bundle")
    encoder.check()
    if oracle.images is not None:
        assert (encoder.embed_images(oracle.pictures) * oracle.images).sum(1).min() >= 0.9999
    if oracle.texts is not None:
        assert (encoder.embed_texts(oracle.given) * oracle.texts).sum(1).min() >= 0.99999
    assert np.min(list(encoder.manifest.provenance["cosine_to_transformers"].values())) >= 0.9999
    assert before == (oracle.folder / "config.json").read_bytes()
    if hasattr(oracle.model, "logit_scale"):
        similarity = encoder.manifest.similarity
        assert similarity.scale == pytest.approx(float(oracle.model.logit_scale.exp()), rel=1e-5)
        bias = getattr(oracle.model, "logit_bias", None)
        assert similarity.kind == ("softmax" if bias is None else "sigmoid")
        assert similarity.bias == pytest.approx(0.0 if bias is None else float(bias), rel=1e-5)


def test_a_repository_without_safetensors_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match=r"config\.json with \.safetensors beside it"):
        trace_repository(FolderRepository(tmp_path), tmp_path)


def test_a_model_that_transformers_does_not_know_is_told_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="it is what refuses")
    origin, made = tmp_path / "origin", tmp_path / "made"
    origin.mkdir()
    made.mkdir()
    (origin / "config.json").write_text(json.dumps({"model_type": "nobody-knows"}))
    (origin / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match="cannot be read by transformers") as refused:
        trace_repository(FolderRepository(origin), made)
    assert "\n" not in refused.value.message


def test_only_folders_of_transformers_are_taken_for_them(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert find_weights(str(tmp_path)) is None
    (tmp_path / "config.json").write_text('{"recipe": "clip"}')
    assert find_weights(str(tmp_path)) is None
    assert find_weights("timm:resnet50") is None
    assert find_weights("hf:openai/clip-vit-base-patch32") is not None
    with pytest.raises(InputError, match="names two repositories"):
        find_weights("hf:a/b+hf:c/d")
