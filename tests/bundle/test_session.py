"""What a graph promises holds for both engines; nothing behind it can tell them apart."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.bundle.engine.openvino_session import OpenVinoSession, has_bf16
from twinlens.bundle.manifest import SimilaritySpec
from twinlens.bundle.session import ENGINES, Graph, Runtime
from twinlens.errors import BundleError, InputError

Make = Callable[..., Path]
WORDS = ["red", "a photo of a blue square", "green square", "of", "a red square", "a a a a a a a a"]
# The least cosine of a row to itself in another batch.
SAME = {"fp32": 1 - 1e-6, "bf16": 1 - 1e-4}


@pytest.fixture(params=ENGINES[1:])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine; OpenVINO only where it is installed."""
    name: str = request.param
    if name == "openvino":
        request.getfixturevalue("openvino")
    return name


def draw(count: int, side: int = 8) -> Any:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def measure_least_cosine(rows: Any, others: Any) -> float:
    return float((rows.astype(np.float64) * others).sum(axis=1).min())


def test_rows_equal_the_definition(toy_bundle: Path, toy_model: Any, engine: str) -> None:
    encoder = open_bundle(toy_bundle, engine=engine)
    assert encoder.engines == {"image": engine, "text": engine}
    pixels = draw(21)
    np.testing.assert_allclose(
        encoder.encode_pixels(pixels), toy_model.embed_pixels(pixels), atol=1e-6
    )
    texts = [word for word in WORDS if word[0] != "a"] * 15
    expected = np.stack([toy_model.embed_text(text) for text in texts])
    np.testing.assert_allclose(encoder.embed_texts(texts), expected, atol=1e-6)


def test_the_builtin_reproduces_its_golden_vectors(engine: str) -> None:
    encoder = open_bundle("builtin", engine=engine, threads=1)
    replay = encoder.check()
    assert min(replay.image_cosine or 0, replay.text_cosine or 0) > 1 - 1e-6


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_row_does_not_depend_on_its_batch(openvino: Path, precision: str) -> None:
    skip_without_bf16(precision)
    encoder = open_bundle("builtin", engine="openvino", precision=precision, threads=1)
    check_batches(encoder, SAME[precision])


def test_a_row_of_onnxruntime_does_not_depend_on_its_batch_either() -> None:
    check_batches(open_bundle("builtin", engine="onnxruntime", threads=1), SAME["fp32"])


def check_batches(encoder: Encoder, least: float) -> None:
    """Batches of every size from 1 to 9, and texts of many lengths beside each other."""
    pixels = draw(9, 48)
    together = encoder.encode_pixels(pixels)
    for size in range(1, 9):
        assert measure_least_cosine(encoder.encode_pixels(pixels[:size]), together[:size]) > least
    texts = [" ".join(["a red heart on the wall"] * count) for count in range(1, 12)]
    together = encoder.embed_texts(texts)
    alone = np.concatenate([encoder.embed_texts([text]) for text in texts])
    assert measure_least_cosine(alone, together) > least
    for rows in (together, alone):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_bf16_is_near_fp32_and_of_unit_length(openvino: Path) -> None:
    skip_without_bf16("bf16")
    exact = open_bundle("builtin", engine="onnxruntime", threads=1)
    encoder = open_bundle("builtin", precision="bf16", threads=1)
    assert encoder.precisions == {"image": "bf16", "text": "bf16"}
    assert encoder.engines == {"image": "openvino", "text": "openvino"}
    texts = ["a red heart", "a dog", "the sun over the sea"]
    cosine = measure_least_cosine(encoder.embed_texts(texts), exact.embed_texts(texts))
    assert 0.999 < cosine < 1 - 1e-8  # the second: it really computes in bf16
    encoder.check()


def test_empty_lists_give_no_rows(toy_bundle: Path, engine: str) -> None:
    encoder = open_bundle(toy_bundle, engine=engine)
    assert encoder.embed_images([]).shape == encoder.embed_texts([]).shape == (0, 16)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_the_similarity_node_runs_beside_either_engine(
    make_toy: Make, squares: dict[str, bytes], engine: str, kind: Any
) -> None:
    folder = make_toy(similarity=SimilaritySpec(kind, 20.0, 0.0, "similarity.onnx"))
    encoder = open_bundle(folder, engine=engine)
    scores = encoder.zero_shot([squares["blue"]], ["red", "green", "blue"])
    assert scores.argmax() == 2
    encoder.check()


def test_threads_may_share_an_encoder(toy_bundle: Path, engine: str) -> None:
    encoder = open_bundle(toy_bundle, engine=engine, threads=2)
    pixels = [draw(count) for count in (1, 3, 8)]
    expected = [encoder.encode_pixels(batch) for batch in pixels]
    kept: list[list[Any]] = [[] for _ in range(4)]

    def work(rows: list[Any]) -> None:
        for _ in range(50):
            rows += [encoder.encode_pixels(batch) for batch in pixels]

    workers = [threading.Thread(target=work, args=(rows,)) for rows in kept]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for rows in kept:
        assert len(rows) == 150
        # All rows were kept: none may be overwritten by a later run.
        for number, found in enumerate(rows):
            np.testing.assert_allclose(found, expected[number % 3], atol=1e-6)


def test_the_number_of_threads_is_obeyed(toy_bundle: Path, openvino: Path) -> None:
    for threads in (1, 2):
        session = OpenVinoSession(toy_bundle / "image.onnx", threads)
        assert session.threads == threads


def test_shapes_are_told_alike(toy_bundle: Path, engine: str) -> None:
    graph = Graph(
        toy_bundle / "image.onnx",
        Runtime(engine=engine),
        inputs=("pixels",),
        output="embedding",
    )
    assert graph.shapes["pixels"][1:] == [8, 8, 3]
    assert graph.shapes["embedding"][1] == 16
    graph.check_dim("embedding", 1, 16)
    with pytest.raises(BundleError, match="has 16 in dimension 1; the manifest says 32"):
        graph.check_dim("embedding", 1, 32)


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (("tokens",), "embedding", r"inputs are \['pixels'\]"),
        (("pixels",), "rows", r"outputs are \['embedding'\]; expected 'rows'"),
    ],
)
def test_a_graph_with_other_names_is_refused(
    toy_bundle: Path, engine: str, inputs: tuple[str, ...], output: str, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        Graph(toy_bundle / "image.onnx", Runtime(engine=engine), inputs=inputs, output=output)


def test_a_damaged_graph_is_refused_with_the_engines_name(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "image.onnx"
    path.write_bytes(os.urandom(64))
    name = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[engine]
    with pytest.raises(BundleError, match=f"does not load in {name}"):
        Graph(path, Runtime(engine=engine), inputs=("pixels",), output="embedding")


def test_a_node_that_openvino_does_not_know_is_named(toy_bundle: Path, openvino: Path) -> None:
    with pytest.raises(BundleError, match=r"ai\.twinlens.*use --engine onnxruntime"):
        OpenVinoSession(toy_bundle / "similarity.onnx", 1)


def test_a_wrong_shape_is_an_error_and_the_next_run_works(toy_bundle: Path, openvino: Path) -> None:
    session = OpenVinoSession(toy_bundle / "image.onnx", 1)
    with pytest.raises(RuntimeError):
        session.run(["embedding"], {"pixels": np.zeros((1, 9, 9, 3), np.uint8)})
    assert session.run(["embedding"], {"pixels": draw(2)})[0].shape == (2, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tensorrt"}, "engine 'tensorrt' is unknown; choose one of auto, onnxruntime"),
        ({"engine": "openvino", "device": "cuda"}, "engine 'openvino' runs on the CPU"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Runtime(**options)  # type: ignore[arg-type]


def skip_without_bf16(precision: str) -> None:
    if precision == "bf16" and not has_bf16():
        pytest.skip("this CPU does not multiply in bfloat16")
