"""Every layout becomes a bundle that gives its definition's embeddings, or nothing is written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.bundle.pull import tiny_models as tiny
from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.bundle.pull.convert import PullOptions, write_pulled_bundle
from twinlens.bundle.pull.repository import FolderRepository
from twinlens.errors import BundleError, ConflictError, InputError, MissingDependencyError

TEXTS = ["a red cat", "cat", "a photo of a red cat", "unknown", "query: red"]
PICTURES = np.random.default_rng(3).integers(0, 256, (5, 8, 8, 3), np.uint8)


def pull(out: Path, *folders: Path, force: bool = False, **options: Any) -> Encoder:
    repositories = [FolderRepository(folder) for folder in folders]
    write_pulled_bundle(repositories, out, PullOptions(**options), force=force)
    encoder = open_bundle(out)
    encoder.check()
    return encoder


def assert_images(encoder: Encoder) -> None:
    found = encoder.embed_images(list(PICTURES))
    np.testing.assert_allclose(found, tiny.embed_pixels(PICTURES), atol=1e-5)


def assert_texts(encoder: Encoder, pooling: str = "sum") -> None:
    found = encoder.embed_texts(TEXTS)
    np.testing.assert_allclose(found, tiny.embed_texts(TEXTS, pooling), atol=1e-5)


@pytest.mark.parametrize("write", [tiny.write_split, tiny.write_fused, tiny.write_immich])
def test_a_layout_with_both_towers(write: Callable[[Path], Path], tmp_path: Path) -> None:
    encoder = pull(tmp_path / "bundle", write(tmp_path / "repository"))
    assert_images(encoder)
    assert_texts(encoder)
    assert encoder.zero_shot(list(PICTURES), ["cat", "red"]).shape == (5, 2)


def test_a_pair_of_repositories_in_either_order(tmp_path: Path) -> None:
    whole = tiny.write_split(tmp_path / "whole")
    parts = [tmp_path / "vision", tmp_path / "text"]
    for folder, stem in zip(parts, ("vision_model", "text_model"), strict=True):
        folder.mkdir()
        shutil.copy(whole / f"onnx/{stem}.onnx", folder / "model.onnx")
        shutil.copy(whole / "config.json", folder)
    shutil.copy(whole / "preprocessor_config.json", parts[0])
    tiny.write_tokenizer(parts[1])
    for order in (parts, parts[::-1]):
        encoder = pull(tmp_path / "bundle", *order, force=True)
        assert_images(encoder)
        assert_texts(encoder)


@pytest.mark.parametrize(("rank", "model_type"), [(3, "vit"), (4, "convnext")])
def test_an_image_tower_alone(rank: int, model_type: str, tmp_path: Path) -> None:
    folder = tiny.write_image_only(tmp_path / "repository", rank=rank, model_type=model_type)
    encoder = pull(tmp_path / "bundle", folder)
    assert_images(encoder)
    assert encoder.manifest.text is None


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
def test_a_text_tower_alone_with_its_pooling_and_prompts(pooling: str, tmp_path: Path) -> None:
    encoder = pull(tmp_path / "bundle", tiny.write_sentences(tmp_path / "repository", pooling))
    assert_texts(encoder, pooling)
    asked = encoder.embed_texts(["red"], input_type="search_query")
    np.testing.assert_allclose(asked, tiny.embed_texts(["query: red"], pooling), atol=1e-5)
    stored = encoder.embed_texts(["red"], input_type="document")
    np.testing.assert_allclose(stored, tiny.embed_texts(["a red"], pooling), atol=1e-5)


def test_texts_are_cut_to_the_longest_only_where_a_mask_makes_that_exact(tmp_path: Path) -> None:
    masked = pull(tmp_path / "masked", tiny.write_split(tmp_path / "split")).manifest.text
    fixed = pull(tmp_path / "fixed", tiny.write_immich(tmp_path / "immich")).manifest.text
    assert masked is not None and masked.cut_to_longest
    assert fixed is not None and not fixed.cut_to_longest
    assert fixed.padding_reason == "the graph takes texts of exactly 16 tokens"


def test_a_graph_that_declares_any_length_and_runs_at_one_gets_padded_texts(
    tmp_path: Path,
) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    nodes = tiny.text_nodes("input_ids", "attention_mask", "sum")
    nodes[3].input[0] = "placed"
    nodes.insert(1, onnx.helper.make_node("Add", ["states", "positions"], ["placed"]))
    nodes.append(onnx.helper.make_node("Neg", ["sum"], ["text_embeds"]))
    outputs = [tiny.declare("text_embeds", onnx.TensorProto.FLOAT, "batch", tiny.DIM)]
    tiny.save(folder / "onnx/text_model.onnx", nodes, [tiny.IDS, tiny.MASK], outputs)
    encoder = pull(tmp_path / "bundle", folder)
    np.testing.assert_allclose(encoder.embed_texts(TEXTS), -tiny.embed_texts(TEXTS), atol=1e-5)
    spec = encoder.manifest.text
    assert spec is not None
    assert spec.padding_reason == "the graph takes texts of exactly 16 tokens"


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_graphs_of_every_opset_since_axes_became_inputs(opset: int, tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository", opset=opset)
    encoder = pull(tmp_path / "bundle", folder)
    assert_images(encoder)
    assert_texts(encoder)


def test_the_scores_of_a_joint_graph_are_measured(tmp_path: Path) -> None:
    spec = pull(tmp_path / "bundle", tiny.write_fused(tmp_path / "repository")).manifest.similarity
    assert spec.kind == "sigmoid"
    assert (spec.scale, spec.bias) == pytest.approx((tiny.SCALE, tiny.BIAS), abs=2e-3)


def test_the_scores_of_parted_towers_are_the_familys_and_the_manifest_says_so(
    tmp_path: Path,
) -> None:
    manifest = pull(tmp_path / "bundle", tiny.write_split(tmp_path / "repository")).manifest
    assert (manifest.similarity.kind, manifest.similarity.scale) == ("softmax", 100.0)
    assert manifest.provenance["similarity"] == "the default of the CLIP family"


def test_another_precision_becomes_a_variant_with_what_was_measured_of_it(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    disturb(folder / "onnx/vision_model.onnx", folder / "onnx/vision_model_fp16.onnx", 0.02)
    disturb(folder / "onnx/text_model.onnx", folder / "onnx/text_model_fp16.onnx", 0.02)
    encoder = pull(tmp_path / "bundle", folder, precisions=("fp32", "fp16"))
    half = [v for v in encoder.manifest.variants if v.precision == "fp16"]
    assert {v.tower for v in half} == {"image", "text"}
    assert all(0.99 < v.cosine < 1 and v.speed > 0 for v in half)
    open_bundle(tmp_path / "bundle", precision="fp16").check()


def test_a_variant_far_away_is_dropped_and_the_manifest_says_so(tmp_path: Path) -> None:
    folder = tiny.write_image_only(tmp_path / "repository")
    disturb(folder / "onnx/model.onnx", folder / "onnx/model_quantized.onnx", 5.0)
    manifest = pull(tmp_path / "bundle", folder, precisions=("fp32", "int8")).manifest
    assert [v.precision for v in manifest.variants] == ["fp32"]
    assert manifest.provenance["notes"][0].startswith("image: int8 was dropped")
    assert not list((tmp_path / "bundle").glob("*int8*"))


def test_where_only_a_quantised_file_exists_it_is_the_reference(tmp_path: Path) -> None:
    folder = tiny.write_image_only(tmp_path / "repository")
    (folder / "onnx/model.onnx").rename(folder / "onnx/model_quantized.onnx")
    encoder = pull(tmp_path / "bundle", folder)
    assert encoder.precisions == {"image": "int8"}
    assert encoder.manifest.provenance["notes"] == [
        "image: the reference is the int8 file: the repository has no fp32"
    ]
    assert_images(encoder)


def test_weights_in_a_file_of_their_own_stay_in_one(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository", location="weights.bin")
    encoder = pull(tmp_path / "bundle", folder)
    assert_images(encoder)
    files = {entry.path for entry in encoder.manifest.files}
    assert {"image.onnx", "image.data", "text.onnx"} <= files


def test_towers_of_one_graph_share_one_file_of_weights(tmp_path: Path) -> None:
    folder = tiny.write_fused(tmp_path / "repository", location="weights.bin")
    encoder = pull(tmp_path / "bundle", folder)
    assert_images(encoder)
    assert_texts(encoder)
    assert len(list((tmp_path / "bundle").glob("*.data"))) == 1


def test_a_graph_in_half_precision_from_its_first_input_to_its_output(tmp_path: Path) -> None:
    folder = tiny.write_image_only(tmp_path / "repository")
    nodes = [
        onnx.helper.make_node("Cast", ["pixel_values"], ["pixels"], to=onnx.TensorProto.FLOAT),
        *tiny.image_nodes("pixels", "row"),
        onnx.helper.make_node("Cast", ["row"], ["pooler_output"], to=onnx.TensorProto.FLOAT16),
    ]
    half = onnx.TensorProto.FLOAT16
    pixels = tiny.declare("pixel_values", half, "batch", 3, tiny.SIDE, tiny.SIDE)
    outputs = [tiny.declare("pooler_output", half, "batch", tiny.DIM)]
    tiny.save(folder / "onnx/model_fp16.onnx", nodes, [pixels], outputs)
    (folder / "onnx/model.onnx").unlink()
    encoder = pull(tmp_path / "bundle", folder, pooling="pooler_output")
    assert encoder.precisions == {"image": "fp16"}
    found = encoder.embed_images(list(PICTURES))
    assert (found * tiny.embed_pixels(PICTURES)).sum(1).min() > 0.9999


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", [], r"config\.json does not hold an object"),
        ("tokenizer_config.json", {"model_max_length": "long"}, "tokenizer has an unknown format"),
        ("preprocessor_config.json", {**tiny.PROCESSOR, "resample": 17}, "preprocessor_config"),
        ("preprocessor_config.json", {**tiny.PROCESSOR, "size": None}, "`size` is missing"),
        ("preprocessor_config.json", {**tiny.PROCESSOR, "crop_size": []}, "unknown format"),
    ],
)
def test_a_configuration_of_an_unexpected_form_is_one_clear_line(
    name: str, content: Any, said: str, tmp_path: Path
) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    tiny.write_json(folder / name, content)
    assert_nothing_is_written(tmp_path, folder, said)


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    (folder / "config.json").write_text("{")
    assert_nothing_is_written(tmp_path, folder, r"config\.json is not JSON")


def test_a_model_is_pulled_where_torch_and_its_kind_cannot_be_imported(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "open_clip", "timm", "transformers"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
from pathlib import Path
from twinlens.bundle.pull.convert import PullOptions, write_pulled_bundle
from twinlens.bundle.pull.repository import FolderRepository
out = Path({str(tmp_path / "bundle")!r})
write_pulled_bundle([FolderRepository(Path({str(folder)!r}))], out, PullOptions())
import twinlens
print(twinlens.open_bundle(out).check().count)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "14", result.stderr


def test_weights_outside_the_folder_are_not_opened(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository", location="weights.bin")
    path = folder / "onnx/vision_model.onnx"
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../../secret" if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    assert_nothing_is_written(tmp_path, folder, r"'\.\./\.\./secret', outside the model's folder")


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository", location="weights.bin")
    (folder / "onnx/weights.bin").unlink()
    assert_nothing_is_written(tmp_path, folder, r"onnx/weights\.bin.* does not hold")


def test_a_batch_of_four_is_refused_with_the_remedy(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    path = folder / "onnx/vision_model.onnx"
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, str(path))
    assert_nothing_is_written(tmp_path, folder, "batches of exactly 4")


def test_a_damaged_graph_is_one_clear_line(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    (folder / "onnx/vision_model.onnx").write_bytes(b"\xff" * 100)
    assert_nothing_is_written(tmp_path, folder, "not an ONNX graph")


def test_an_unknown_processor_is_named(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    tiny.write_json(folder / "preprocessor_config.json", {"image_processor_type": "FunnyProcessor"})
    assert_nothing_is_written(tmp_path, folder, "'FunnyProcessor' is unknown")


def test_towers_of_two_spaces_are_refused(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    tiny.write_sentences(tmp_path / "other")
    out = [tiny.declare("text_embeds", 1, "batch", tiny.DIM - 1)]
    path = folder / "onnx/text_model.onnx"
    model = onnx.load(str(path))
    narrow = tiny.WORD_ROWS[:, :-1]
    rows = next(item for item in model.graph.initializer if item.name == "word_rows")
    rows.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(narrow), "word_rows"))
    del model.graph.output[:]
    model.graph.output.extend(out)
    onnx.save(model, str(path))
    assert_nothing_is_written(tmp_path, folder, "differ in dimension")


def test_the_manifest_says_where_the_model_came_from(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    manifest = pull(tmp_path / "bundle", folder).manifest
    assert manifest.name == "repository"
    assert manifest.provenance["licence"] == "mit"
    assert manifest.provenance["card"]["base_model"] == "some/model"
    assert manifest.extensions["source"]["layout"] == "onnx-community"
    assert b"somebody" not in (tmp_path / "bundle/image.onnx").read_bytes()


def test_parts_can_be_named_by_hand(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    (folder / "onnx").rename(folder / "strange")
    with pytest.raises(BundleError, match="--image-file"):
        pull(tmp_path / "bundle", folder)
    encoder = pull(
        tmp_path / "bundle",
        folder,
        image_file="strange/vision_model.onnx",
        text_file="strange/text_model.onnx",
    )
    assert_images(encoder)
    assert_texts(encoder)


def test_a_text_tower_that_says_no_pooling_asks_for_it(tmp_path: Path) -> None:
    folder = tiny.write_sentences(tmp_path / "repository")
    (folder / "modules.json").unlink()
    shutil.rmtree(folder / "1_Pooling")
    with pytest.raises(BundleError, match="--pooling"):
        pull(tmp_path / "bundle", folder)
    assert_texts(pull(tmp_path / "bundle", folder, pooling="cls"), "cls")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precisions": ("q4",)}, "precision 'q4' is unknown"),
        ({"precisions": ("int8",)}, "precision 'int8' is not in .* it has fp32"),
        ({"pooling": "middle"}, "pooling 'middle' is unknown"),
        ({"image_file": "nothing.onnx"}, "holds no 'nothing.onnx'"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    with pytest.raises(InputError, match=said):
        pull(tmp_path / "bundle", folder, **options)


def test_a_bundle_is_not_replaced_without_force(tmp_path: Path) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    first = pull(tmp_path / "bundle", folder)
    with pytest.raises(ConflictError, match="exists already"):
        pull(tmp_path / "bundle", folder)
    assert pull(tmp_path / "bundle", folder, force=True).revision == first.revision


def test_a_pull_without_onnx_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.write_split(tmp_path / "repository")
    name = "twinlens.bundle.pull.fitting.assembly"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match="pip install onnx"):
        pull(tmp_path / "bundle", folder)


def assert_nothing_is_written(tmp_path: Path, folder: Path, said: str) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(BundleError, match=said):
        pull(tmp_path / "bundle", folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def disturb(source: Path, target: Path, size: float) -> None:
    """Write the graph with weights moved at random, as a coarser precision moves them."""
    model = onnx.load(str(source))
    rng = np.random.default_rng(1)
    for item in model.graph.initializer:
        array = onnx.numpy_helper.to_array(item)
        if array.dtype == np.float32:
            noise = size * rng.standard_normal(array.shape)
            moved = onnx.numpy_helper.from_array((array + noise).astype(np.float32), item.name)
            item.CopyFrom(moved)
    onnx.save(model, str(target))
