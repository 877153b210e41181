"""A bundle is complete or absent, and each kind of damage has its own message."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from twinlens.bundle.encoder import open_bundle
from twinlens.bundle.manifest import Manifest, SimilaritySpec
from twinlens.bundle.store import read_manifest, seal_manifest, verify_bundle, write_bundle
from twinlens.errors import BundleError, ConflictError, TwinlensError

Make = Callable[..., Path]


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "bundle.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def reseal(folder: Path) -> None:
    """Update hashes and revision after a file was changed."""
    manifest = seal_manifest(folder, read_manifest(folder))
    (folder / "bundle.json").write_text(manifest.to_json())


def test_a_written_bundle_verifies(toy_bundle: Path) -> None:
    manifest = verify_bundle(toy_bundle)
    assert len(manifest.revision) == 64
    assert {entry.path for entry in manifest.files} == {
        path.name for path in toy_bundle.iterdir() if path.name != "bundle.json"
    }


def test_equal_content_has_an_equal_revision(make_toy: Make) -> None:
    first, second = read_manifest(make_toy("a")), read_manifest(make_toy("b"))
    assert first.revision == second.revision


def test_a_new_name_or_measurement_keeps_the_revision(make_toy: Make) -> None:
    plain = read_manifest(make_toy("a"))
    renamed = read_manifest(make_toy("b", provenance={"kNN": 91.0}))
    assert plain.revision == renamed.revision


def test_everything_that_affects_embeddings_changes_the_revision(make_toy: Make) -> None:
    plain = read_manifest(make_toy("a"))
    assert plain.image is not None
    cropped = read_manifest(make_toy("b", image=replace(plain.image, interpolation="bilinear")))
    scaled = read_manifest(
        make_toy("c", similarity=SimilaritySpec("softmax", 9, 0, "similarity.onnx"))
    )
    assert len({plain.revision, cropped.revision, scaled.revision}) == 3


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_nothing(
    tmp_path: Path, toy_bundle: Path, failure: type[BaseException]
) -> None:
    def fill(folder: Path) -> None:
        (folder / "half.onnx").write_bytes(b"half")
        raise failure

    with pytest.raises(failure):
        write_bundle(tmp_path / "out", read_manifest(toy_bundle), fill)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_replaced_only_by_force(tmp_path: Path, toy_bundle: Path) -> None:
    manifest = read_manifest(toy_bundle)

    def fill(folder: Path) -> None:
        for entry in manifest.files:
            shutil.copy(toy_bundle / entry.path, folder)

    write_bundle(tmp_path / "out", manifest, fill)
    with pytest.raises(ConflictError, match=r"exists already.*--force"):
        write_bundle(tmp_path / "out", manifest, fill)
    write_bundle(tmp_path / "out", manifest, fill, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    verify_bundle(tmp_path / "out")


def test_a_failed_replacement_keeps_the_old_bundle(tmp_path: Path, toy_bundle: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(toy_bundle, out)

    def fill(folder: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_bundle(out, read_manifest(toy_bundle), fill, force=True)
    verify_bundle(out)


def _remove_weights(folder: Path) -> None:
    (folder / "image.onnx.data").unlink()


def _flip_a_byte(folder: Path) -> None:
    path = folder / "image.onnx.data"
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)


def _append_a_byte(folder: Path) -> None:
    with (folder / "text.onnx").open("ab") as file:
        file.write(b"x")


def _unknown_format(folder: Path) -> None:
    edit_manifest(folder, lambda raw: raw.update(format=99))


def _edit_scale(folder: Path) -> None:
    edit_manifest(folder, lambda raw: raw["similarity"].update(scale=1.0))


def _climb_out(folder: Path) -> None:
    edit_manifest(folder, lambda raw: raw["files"][0].update(path="../secret"))


def _absolute_tower(folder: Path) -> None:
    edit_manifest(folder, lambda raw: raw["image"].update(file="/etc/hostname"))


def _unlisted_tower(folder: Path) -> None:
    edit_manifest(folder, lambda raw: raw["image"].update(file="other.onnx"))


def _external_data_outside(folder: Path) -> None:
    model = onnx.load(folder / "image.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../image.onnx.data"
    onnx.save(model, folder / "image.onnx")
    reseal(folder)


def _external_data_unlisted(folder: Path) -> None:
    model = onnx.load(folder / "image.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "elsewhere.data"
    onnx.save(model, folder / "image.onnx")
    reseal(folder)


def _garbage_graph(folder: Path) -> None:
    (folder / "image.onnx").write_bytes(b"\x3a\xff\xff\xff\xff\x0fnot a graph")
    reseal(folder)


def _unloadable_graph(folder: Path) -> None:
    model = onnx.load(folder / "image.onnx", load_external_data=False)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, folder / "image.onnx")
    reseal(folder)


def _swapped_names(folder: Path) -> None:
    shutil.copy(folder / "text.onnx", folder / "image.onnx")
    reseal(folder)


def _other_dim(folder: Path) -> None:
    edit_manifest(folder, lambda raw: raw.update(embedding_dim=17))
    reseal(folder)


def _other_size(folder: Path) -> None:
    edit_manifest(folder, lambda raw: raw["image"].update(height=9))
    reseal(folder)


def _link_outside(folder: Path) -> None:
    target = folder.parent / "image.onnx.data"
    shutil.move(folder / "image.onnx.data", target)
    (folder / "image.onnx.data").symlink_to(target)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove_weights, "'image.onnx.data' is missing"),
        (_flip_a_byte, "sha256 of file 'image.onnx.data'"),
        (_append_a_byte, "'text.onnx' has"),
        (_unknown_format, "format 99 is unknown"),
        (_edit_scale, "was edited after the export"),
        (_climb_out, "leaves the bundle"),
        (_absolute_tower, "leaves the bundle"),
        (_unlisted_tower, "'other.onnx', which its `files` do not list"),
        (_external_data_outside, "leaves the bundle"),
        (_external_data_unlisted, "reads weights from 'elsewhere.data'"),
        (_garbage_graph, "is not an ONNX graph"),
        (_unloadable_graph, "does not load in ONNX Runtime"),
        (_swapped_names, "the graph's inputs are ['tokens']"),
        (_other_dim, "'embedding' has 16 in dimension 1; the manifest says 17"),
        (_other_size, "'pixels' has 8 in dimension 1; the manifest says 9"),
        (_link_outside, "is a link that leaves the bundle"),
    ],
)
def test_each_damage_has_its_own_error(
    make_toy: Make, damage: Callable[[Path], None], message: str
) -> None:
    folder = make_toy()
    damage(folder)
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_golden_mismatch_is_refused(make_toy: Make) -> None:
    folder = make_toy()
    weights = onnx.load(folder / "image.onnx").graph.initializer[0]
    data = bytearray(weights.raw_data)
    data[:64] = data[64:128]
    (folder / "image.onnx.data").write_bytes(data)
    reseal(folder)
    encoder = open_bundle(folder)
    with pytest.raises(BundleError, match="golden mismatch in the image tower"):
        encoder.check()


def test_a_similarity_node_of_another_scale_is_refused(make_toy: Make) -> None:
    folder = make_toy()
    edit_manifest(folder, lambda raw: raw["similarity"].update(scale=3.0))
    reseal(folder)
    with pytest.raises(BundleError, match="similarity node differs from its definition"):
        open_bundle(folder).check()


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_that_is_not_a_bundle_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TwinlensError, match=r"does not exist|is not a bundle"):
        open_bundle(tmp_path / name)


def test_opening_without_hashes_still_checks_names_and_sizes(make_toy: Make) -> None:
    folder = make_toy()
    _flip_a_byte(folder)
    assert isinstance(verify_bundle(folder, hashes=False), Manifest)
    os.truncate(folder / "image.onnx.data", 3)
    with pytest.raises(BundleError, match="has 3 bytes"):
        verify_bundle(folder, hashes=False)


def test_a_bundle_written_before_extensions_opens_and_answers_as_exported() -> None:
    kept = Path(__file__).parent / "kept" / "format1"
    assert "extensions" not in (kept / "bundle.json").read_text()
    assert open_bundle(kept).check().image_cosine is not None


def test_an_extension_is_outside_the_revision_and_survives_a_round_trip(
    toy_bundle: Path, make_toy: Callable[..., Path]
) -> None:
    card = {"card": {"domain": "squares", "not_for": ["faces"]}, "of tomorrow": {"any": 1}}
    extended = verify_bundle(make_toy(extensions=card))
    assert extended.extensions == card
    assert extended.revision == verify_bundle(toy_bundle).revision


def test_a_required_extension_counts_into_the_revision(
    toy_bundle: Path, make_toy: Callable[..., Path]
) -> None:
    prompts = {"prompts": {"required": True, "by_purpose": {"query": "query: "}}}
    manifest = verify_bundle(make_toy(extensions=prompts))
    assert manifest.revision != verify_bundle(toy_bundle).revision
