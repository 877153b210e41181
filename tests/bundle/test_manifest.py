"""The manifest survives a round trip, and errors name every fault in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TOY_MANIFEST
from twinlens.bundle.manifest import Variant, check_path, parse_manifest
from twinlens.bundle.store import read_manifest
from twinlens.errors import BundleError


@pytest.fixture
def raw(toy_bundle: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((toy_bundle / "bundle.json").read_text())
    return fields


def test_a_manifest_survives_a_round_trip(toy_bundle: Path) -> None:
    manifest = read_manifest(toy_bundle)
    assert parse_manifest(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2 is unknown; this version reads format 1"),
        ({"format": None}, "format None is unknown"),
        ({"embedding_dim": "16"}, "embedding_dim is '16'; expected int"),
        ({"embedding_dim": True}, "embedding_dim is True; expected int"),
        ({"embedding_dim": 0}, "embedding_dim is 0"),
        ({"matryoshka_dims": [4, 99]}, "matryoshka_dims [99]"),
        ({"templates": ["no place"]}, "must hold {} exactly once"),
        ({"templates": "a {}"}, "expected a list"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"image": None, "text": None}, "needs a tower"),
        ({"image": {"file": "image.onnx"}}, "field 'image.height' is missing"),
        ({"similarity": []}, "expected an object"),
        ({"extensions": []}, "extensions is []; expected dict"),
        ({"extensions": {"card": "text"}}, "extensions.card is 'text'; expected an object"),
        ({"extensions": {"card": {"required": 1}}}, "extensions.card.required is 1"),
        (
            {"extensions": {"rotation": {"required": True, "degrees": 90}}},
            "extension 'rotation' affects the embeddings and is unknown to this version",
        ),
    ],
)
def test_each_fault_is_named(raw: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError) as caught:
        parse_manifest(json.dumps(raw | change))
    assert message in caught.value.message


def test_a_wrong_word_lists_the_right_ones(raw: dict[str, Any]) -> None:
    raw["image"]["resize"] = "stretch"
    with pytest.raises(BundleError, match=r"image\.resize is 'stretch'.*'squash'"):
        parse_manifest(json.dumps(raw))


def test_a_tuple_of_the_wrong_length_is_refused(raw: dict[str, Any]) -> None:
    raw["image"]["mean"] = [0.5, 0.5]
    with pytest.raises(BundleError, match=r"image\.mean has 2 entries; expected 3"):
        parse_manifest(json.dumps(raw))


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(BundleError, match="not JSON"):
        parse_manifest("{")
    with pytest.raises(BundleError, match="does not hold an object"):
        parse_manifest("[]")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "", "C:\\x", "a\\..\\x", "http://x", "a\0b"]
)
def test_paths_that_leave_the_bundle_are_refused(path: str) -> None:
    with pytest.raises(BundleError, match="leaves the bundle"):
        check_path(path)


def test_plain_relative_paths_pass() -> None:
    assert check_path("towers/image.onnx") == "towers/image.onnx"


def test_a_towers_files_begin_with_the_one_that_the_others_are_judged_by() -> None:
    variants = (
        Variant("text", "int8", "t8.onnx", 0.99, 2.0),
        Variant("image", "fp16", "i.onnx", 1, 1),
    )
    manifest = replace(TOY_MANIFEST, variants=variants)
    assert list(manifest.list_graphs("text").items()) == [
        ("fp32", "text.onnx"),
        ("int8", "t8.onnx"),
    ]
    alone = replace(TOY_MANIFEST, variants=(Variant("text", "int8", "text.onnx", 0.99, 1.0),))
    assert alone.list_graphs("text") == {"int8": "text.onnx"}


def test_a_crop_that_rounds_is_not_written_so_that_older_versions_read_the_bundle() -> None:
    assert TOY_MANIFEST.image is not None
    assert '"crop"' not in TOY_MANIFEST.to_json()
    floor = replace(TOY_MANIFEST, image=replace(TOY_MANIFEST.image, crop="floor"))
    assert parse_manifest(floor.to_json()) == floor
