"""What names a ready model, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinlens.bundle.pull.source import HubName, Source, parse_source
from twinlens.errors import InputError


@pytest.mark.parametrize(
    ("text", "places", "name"),
    [
        ("hf:Xenova/clip", [HubName("Xenova/clip")], "clip"),
        ("hf:a-b/c_d.e-1@v1.0", [HubName("a-b/c_d.e-1", "v1.0")], "c_d.e-1"),
        ("hf:a/b@refs/pr/1", [HubName("a/b", "refs/pr/1")], "b"),
        ("hf:a/b+hf:c/d@main", [HubName("a/b"), HubName("c/d", "main")], "b"),
    ],
)
def test_a_source_of_a_hub_is_read_and_written_alike(
    text: str, places: list[HubName], name: str
) -> None:
    source = parse_source(text)
    assert source == Source(tuple(places))
    assert (str(source), source.name) == (text, name)


@pytest.mark.parametrize(
    "text",
    ["hf:", "hf:clip", "hf:a/b/c", "hf:a/b@", "hf:a/b@x y", "hf:../x", "hf:a/..", "hf:a/b@../x"],
)
def test_what_is_almost_a_source_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_source(text)
    assert text in caught.value.message and "\n" not in caught.value.message


def test_three_repositories_are_too_many() -> None:
    with pytest.raises(InputError, match="names 3 repositories"):
        parse_source("hf:a/b+hf:c/d+hf:e/f")


@pytest.mark.parametrize(
    ("files", "is_model"),
    [
        (["model.onnx"], True),
        (["onnx/model.onnx", "config.json"], True),
        (["config.json", "pytorch_model.bin"], True),
        (["config.json", "model.safetensors"], True),
        (["config.json"], False),
        (["image.onnx", "bundle.json"], False),
        (["image.onnx", "golden.npz"], False),
        ([], False),
    ],
)
def test_a_folder_is_a_source_where_it_holds_a_model_and_no_bundle(
    tmp_path: Path, files: list[str], is_model: bool
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert parse_source(tmp_path) == (Source((tmp_path,)) if is_model else None)


def test_other_words_are_no_source(tmp_path: Path) -> None:
    assert parse_source("builtin") is None
    assert parse_source(tmp_path / "nothing") is None


def test_a_revision_is_given_once_and_to_one_repository() -> None:
    source = parse_source("hf:a/b")
    assert source is not None and str(source.at("v2")) == "hf:a/b@v2"
    for text in ("hf:a/b@v1", "hf:a/b+hf:c/d"):
        fixed = parse_source(text)
        assert fixed is not None
        with pytest.raises(InputError, match=r"--revision 'v2' does not fit"):
            fixed.at("v2")
    with pytest.raises(InputError, match="not a branch, tag or commit"):
        source.at("../x")
