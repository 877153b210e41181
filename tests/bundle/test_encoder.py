"""The encoder returns what its towers define, and gives clear errors for the rest."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import twinlens
from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.bundle.manifest import SimilaritySpec
from twinlens.bundle.store import read_manifest, seal_manifest
from twinlens.errors import ImageError, InputError

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def encoder(toy_bundle: Path) -> Encoder:
    return open_bundle(toy_bundle)


def draw(count: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(count)]


def test_images_equal_the_definition(encoder: Encoder, toy_model: Any) -> None:
    pixels = draw(21)
    expected = toy_model.embed_pixels(np.stack(pixels))
    np.testing.assert_allclose(encoder.embed_images(pixels), expected, atol=1e-6)


def test_texts_equal_the_definition_in_the_order_given(encoder: Encoder, toy_model: Any) -> None:
    texts = ["red", "a photo of a blue square", "green square", "of", "a red square"] * 15
    expected = np.stack([toy_model.embed_text(text) for text in texts])
    np.testing.assert_allclose(encoder.embed_texts(texts), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["bytes", "path", "str", "pil", "array"])
def test_every_kind_of_image_gives_the_same_row(
    encoder: Encoder, squares: dict[str, bytes], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(squares["red"])
    sources: dict[str, Any] = {
        "bytes": squares["red"],
        "path": path,
        "str": str(path),
        "pil": Image.open(io.BytesIO(squares["red"])),
        "array": np.full((12, 12, 3), (255, 0, 0), np.uint8),
    }
    reference = encoder.embed_images([squares["red"]])
    np.testing.assert_allclose(encoder.embed_images([sources[kind]]), reference, atol=1e-6)


def test_a_row_does_not_depend_on_its_batch(encoder: Encoder) -> None:
    pixels = draw(19)
    together = encoder.embed_images(pixels)
    alone = np.concatenate([encoder.embed_images([image]) for image in pixels])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_rows_are_float32_and_of_unit_length(encoder: Encoder) -> None:
    rows = encoder.embed_texts(["red", "green", "a blue square"])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_an_empty_list_gives_no_rows(encoder: Encoder) -> None:
    assert encoder.embed_images([]).shape == (0, 16)
    assert encoder.embed_texts([]).shape == (0, 16)


def test_shorter_embeddings_are_normalised_again(encoder: Encoder) -> None:
    full, short = encoder.embed_texts(["red"]), encoder.embed_texts(["red"], dimensions=4)
    assert short.shape == (1, 4)
    np.testing.assert_allclose(short[0], full[0, :4] / np.linalg.norm(full[0, :4]), atol=1e-6)


@pytest.mark.parametrize("dimensions", [5, 0, -4, 17])
def test_a_length_that_the_bundle_does_not_allow_is_refused(
    encoder: Encoder, dimensions: int
) -> None:
    with pytest.raises(InputError, match=r"offers 4, 8, 16"):
        encoder.embed_texts(["red"], dimensions=dimensions)


def test_a_bundle_may_allow_any_length(make_toy: Make) -> None:
    encoder = open_bundle(make_toy(any_dimension=True))
    assert encoder.embed_texts(["red"], dimensions=5).shape == (1, 5)


def test_zero_shot_finds_the_colour(encoder: Encoder, squares: dict[str, bytes]) -> None:
    scores = encoder.zero_shot([squares["blue"], squares["red"]], ["red", "green", "blue"])
    assert scores.argmax(axis=1).tolist() == [2, 0]
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_zero_shot_equals_the_protocol_in_numpy(
    encoder: Encoder, squares: dict[str, bytes], toy_model: Any
) -> None:
    classes, templates = ["red", "green"], ["a {}", "photo of {} square"]
    bank = np.stack(
        [
            np.mean([toy_model.embed_text(t.replace("{}", c)) for t in templates], axis=0)
            for c in classes
        ]
    )
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    logits = 20.0 * encoder.embed_images([squares["red"]]) @ bank.T
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = encoder.zero_shot([squares["red"]], classes, templates)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sigmoid_bundles_score_each_class_alone(make_toy: Make, squares: dict[str, bytes]) -> None:
    similarity = SimilaritySpec("sigmoid", 10.0, -5.0, "similarity.onnx")
    encoder = open_bundle(make_toy(similarity=similarity))
    bank = encoder.class_bank(["red", "green"])
    scores, cosines = encoder.classify(encoder.embed_images([squares["red"]]), bank)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-(10 * cosines - 5))), atol=1e-6)
    encoder.check()


def test_zero_shot_runs_the_node_of_the_bundle(make_toy: Make, squares: dict[str, bytes]) -> None:
    """An edited node changes the answer: no other code computes the scores."""
    folder = make_toy()
    before = open_bundle(folder).zero_shot([squares["red"]], ["red", "green"])
    model = onnx.load(folder / "similarity.onnx")
    (function,) = model.functions
    assert function.domain == "ai.twinlens"
    for node in function.node:
        if node.op_type == "Softmax":
            node.op_type = "LogSoftmax"
    onnx.save(model, folder / "similarity.onnx")
    manifest = seal_manifest(folder, read_manifest(folder))
    (folder / "bundle.json").write_text(manifest.to_json())
    after = open_bundle(folder).zero_shot([squares["red"]], ["red", "green"])
    np.testing.assert_allclose(after, np.log(before), atol=1e-5)


def test_class_banks_are_cached(encoder: Encoder) -> None:
    assert encoder.class_bank(["red", "blue"]) is encoder.class_bank(["red", "blue"])


@pytest.mark.parametrize(
    ("classes", "templates", "message"),
    [
        ([], None, "classes is empty"),
        ("red", None, "classes is empty"),
        (["red", " "], None, r"classes\[1\] is ' '"),
        (["red"], [], "templates is empty"),
        (["red"], ["plain"], r"templates\[0\] is 'plain'; it must hold \{\} exactly once"),
    ],
)
def test_a_bad_class_set_is_named(
    encoder: Encoder, squares: dict[str, bytes], classes: Any, templates: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        encoder.zero_shot([squares["red"]], classes, templates)


def test_a_bad_image_is_named_by_its_place(encoder: Encoder, squares: dict[str, bytes]) -> None:
    with pytest.raises(ImageError, match=r"images\[2\]") as caught:
        encoder.embed_images([squares["red"], squares["blue"], b"not an image"])
    assert caught.value.field == "images[2]"


def test_one_item_without_a_list_is_refused(encoder: Encoder, squares: dict[str, bytes]) -> None:
    with pytest.raises(InputError, match=r"\[image\]"):
        encoder.embed_images(squares["red"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"\[text\]"):
        encoder.embed_texts("red")


def test_an_image_only_bundle_says_so(make_toy: Make, squares: dict[str, bytes]) -> None:
    encoder = open_bundle(make_toy(text=None))
    assert encoder.embed_images([squares["red"]]).shape == (1, 16)
    with pytest.raises(InputError, match="no text tower; it embeds images only"):
        encoder.embed_texts(["red"])
    encoder.check()


def test_a_text_only_bundle_says_so(make_toy: Make) -> None:
    encoder = open_bundle(make_toy(image=None))
    assert encoder.embed_texts(["red"]).shape == (1, 16)
    with pytest.raises(InputError, match="no image tower; it embeds texts only"):
        encoder.embed_images([b""])
    encoder.check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "precision 'int4' is not in bundle 'toy'; it has fp32"),
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"threads": 0}, "threads is 0"),
        ({"device": "cuda"}, "onnxruntime-gpu"),
    ],
)
def test_an_unavailable_option_is_refused(
    toy_bundle: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_bundle(toy_bundle, **options)


def test_the_provider_is_the_one_that_the_session_got(encoder: Encoder) -> None:
    assert encoder.provider == "CPUExecutionProvider"


def test_an_encoder_describes_itself(encoder: Encoder) -> None:
    expected = f"<Encoder toy {encoder.revision[:12]}: 16 dimensions, image fp32, text fp32, on "
    assert repr(encoder).startswith(expected)


def test_warming_up_needs_no_input(make_toy: Make) -> None:
    open_bundle(make_toy()).warm_up()
    open_bundle(make_toy("images", text=None)).warm_up()


def test_attention_is_refused_where_there_is_none(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="no attention output"):
        encoder.attention(np.zeros((1, 8, 8, 3), np.uint8))


def test_threads_may_share_an_encoder(encoder: Encoder, squares: dict[str, bytes]) -> None:
    expected = encoder.zero_shot([squares["green"]], ["red", "green"])
    found: list[Any] = []

    def work() -> None:
        for _ in range(20):
            found.append(encoder.zero_shot([squares["green"]], ["red", "green"]))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 80
    for scores in found:
        np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_the_public_interface_is_three_names(toy_bundle: Path) -> None:
    assert isinstance(twinlens.open_bundle(toy_bundle), twinlens.Encoder)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = twinlens.nothing
