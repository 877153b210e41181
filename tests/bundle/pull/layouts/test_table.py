"""A layout is told by the names of files; a refusal says what was found and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from twinlens.bundle.pull.layouts.table import find_model
from twinlens.errors import BundleError, InputError


class ListedRepository:
    """A repository of names alone: finding a layout may not ask for more."""

    revision = licence = card = ""

    def __init__(self, *paths: str, source: str = "hf:owner/name") -> None:
        self.source = source
        self.files: Mapping[str, int] = dict.fromkeys(paths, 1)

    def fetch(self, paths: Iterable[str]) -> Path:
        raise AssertionError(f"a layout fetched {list(paths)}")


HUB = ("config.json", "preprocessor_config.json", "tokenizer.json")


@pytest.mark.parametrize(
    ("paths", "layout", "image", "text"),
    [
        (
            (*HUB, "onnx/vision_model.onnx", "onnx/text_model.onnx", "onnx/model.onnx"),
            "onnx-community",
            "onnx/vision_model.onnx",
            "onnx/text_model.onnx",
        ),
        ((*HUB, "onnx/model.onnx"), "onnx-community", "onnx/model.onnx", "onnx/model.onnx"),
        (
            ("visual/model.onnx", "textual/model.onnx", "textual/tokenizer.json", "config.json"),
            "immich",
            "visual/model.onnx",
            "textual/model.onnx",
        ),
        (("onnx/model.onnx", "preprocessor_config.json"), "image-only", "onnx/model.onnx", ""),
        (("model.onnx", "preprocessor_config.json"), "image-only", "model.onnx", ""),
        (("onnx/model.onnx", "tokenizer.json"), "sentence-transformers", "", "onnx/model.onnx"),
    ],
)
def test_a_layout_is_found(paths: tuple[str, ...], layout: str, image: str, text: str) -> None:
    found = find_model([ListedRepository(*paths)])
    assert found.layout == layout
    assert (found.image.graphs["fp32"] if found.image else "") == image
    assert (found.text.graphs["fp32"] if found.text else "") == text
    assert found.is_fused == (bool(image) and image == text)


def test_only_the_precisions_of_a_bundle_are_listed() -> None:
    names = ("", "_fp16", "_quantized", "_q4", "_bnb4", "_int8", "_q4f16", "_uint8")
    paths = [f"onnx/vision_model{name}.onnx" for name in names]
    found = find_model([ListedRepository(*paths, *HUB)])
    assert found.image is not None
    assert found.image.graphs == {
        "fp32": "onnx/vision_model.onnx",
        "fp16": "onnx/vision_model_fp16.onnx",
        "int8": "onnx/vision_model_quantized.onnx",
    }


def test_a_file_beside_the_graph_goes_before_one_at_the_top() -> None:
    paths = ("visual/model.onnx", "visual/preprocess_cfg.json", "preprocess_cfg.json")
    found = find_model([ListedRepository(*paths)])
    assert found.image is not None
    assert found.image.described_by["open_clip"] == "visual/preprocess_cfg.json"


def test_an_unknown_layout_says_what_was_found_and_how_to_name_the_parts() -> None:
    with pytest.raises(BundleError) as caught:
        find_model([ListedRepository("strange/towers.onnx", "config.json")])
    for said in ("strange/towers.onnx", "onnx/vision_model.onnx", "visual/", "--image-file"):
        assert said in caught.value.message


def test_a_repository_without_graphs_names_its_twin() -> None:
    repository = ListedRepository(
        "model.safetensors", "config.json", source="hf:openai/clip-vit-base-patch32@main"
    )
    with pytest.raises(BundleError) as caught:
        find_model([repository])
    assert "hf:Xenova/clip-vit-base-patch32" in caught.value.message
    assert "torch and transformers" in caught.value.message


def test_pickles_are_named_and_not_opened() -> None:
    with pytest.raises(BundleError, match=r"only pickles \(pytorch_model\.bin\).*never opened"):
        find_model([ListedRepository("pytorch_model.bin", "config.json")])


def test_two_repositories_must_hold_a_tower_each() -> None:
    image = ListedRepository("model.onnx", "preprocessor_config.json")
    text = ListedRepository("model.onnx", "tokenizer.json")
    found = find_model([text, image])
    assert found.image is not None and found.image.repository is image
    assert found.text is not None and found.text.repository is text
    assert not found.is_fused
    with pytest.raises(InputError, match="only an image tower"):
        find_model([image, image])
    with pytest.raises(InputError, match="3 repositories"):
        find_model([image, text, text])
