"""The similarity file against float64 arithmetic, in ONNX Runtime and the reference evaluator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from twinlens.kernels.onnx.attach import attach_similarity, build_node, build_similarity
from twinlens.kernels.onnx.register import DOMAIN, OP_TYPES, Kind

Array = npt.NDArray[Any]
Run = Callable[[onnx.ModelProto, dict[str, Array]], list[Array]]
SCALE, BIAS = 20.0, -3.0


def run_in_runtime(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    outputs: list[Array] = session.run(None, feeds)
    return outputs


def run_in_evaluator(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    outputs: list[Array] = ReferenceEvaluator(model).run(None, feeds)  # type: ignore[assignment]
    return outputs


def expected_scores(
    kind: Kind, x: Array, y: Array, scale: float = SCALE, bias: float = BIAS
) -> tuple[Array, Array]:
    """Scores and cosines in float64; a row of zeros has cosine 0."""
    unit_x, unit_y = (
        rows.astype(np.float64) / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        for rows in (x.astype(np.float64), y.astype(np.float64))
    )
    cosines = unit_x @ unit_y.T
    if kind == "sigmoid":
        return 1 / (1 + np.exp(-(scale * cosines + bias))), cosines
    powers = np.exp(scale * (cosines - cosines.max(axis=1, keepdims=True)))
    return powers / powers.sum(axis=1, keepdims=True), cosines


def unit_rows(rng: np.random.Generator, n: int, d: int = 64) -> Array:
    rows = rng.standard_normal((n, d))
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32)


@pytest.mark.parametrize("run", [run_in_runtime, run_in_evaluator])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 250), (7, 3), (32, 40)])
def test_the_file_agrees_with_float64_to_a_millionth(run: Run, kind: Kind, n: int, m: int) -> None:
    rng = np.random.default_rng(n * m)
    x, y = unit_rows(rng, n), unit_rows(rng, m)
    model = build_similarity(kind, scale=SCALE, bias=BIAS)
    scores, similarities = run(model, {"embeddings": x, "classes": y})
    wanted, cosines = expected_scores(kind, x, y)
    assert np.abs(scores - wanted).max() <= 1e-6
    assert np.abs(similarities - cosines).max() <= 1e-6
    assert (scores.argmax(1) == wanted.argmax(1)).all()


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_at_scale_100_the_error_is_float32s_own_rounding(kind: Kind) -> None:
    rng = np.random.default_rng(0)
    x, y = unit_rows(rng, 16), unit_rows(rng, 50)
    model = build_similarity(kind, scale=100.0, bias=-9.5)
    scores = run_in_runtime(model, {"embeddings": x, "classes": y})[0]
    wanted, _ = expected_scores(kind, x, y, scale=100.0, bias=-9.5)
    assert np.abs(scores - wanted).max() <= 100 * np.finfo(np.float32).eps
    assert np.argmax(scores[0]) == np.argmax(wanted[0])


@pytest.mark.parametrize("run", [run_in_runtime, run_in_evaluator])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_rows_of_any_length_and_rows_of_zeros_give_finite_scores(run: Run, kind: Kind) -> None:
    rng = np.random.default_rng(1)
    x, y = 1000 * unit_rows(rng, 4), 1e-3 * unit_rows(rng, 5)
    x[2], y[3] = 0, 0
    scores = run(build_similarity(kind, scale=SCALE, bias=BIAS), {"embeddings": x, "classes": y})[0]
    wanted, _ = expected_scores(kind, x, y)
    assert np.isfinite(scores).all()
    assert np.abs(scores - wanted).max() <= 1e-6
    assert scores[2] == pytest.approx(
        np.full(5, 0.2 if kind == "softmax" else wanted[2, 0]), abs=1e-6
    )


def test_the_scores_are_those_of_the_function_body_in_the_file() -> None:
    """A runtime that took the answer from elsewhere would not notice an edited body."""
    rng = np.random.default_rng(2)
    feeds = {"embeddings": unit_rows(rng, 3), "classes": unit_rows(rng, 4)}
    model = build_similarity("softmax", scale=SCALE)
    before = run_in_runtime(model, feeds)[0]
    (body,) = model.functions
    assert body.node[-1].op_type == "Softmax"
    body.node[-1].op_type = "LogSoftmax"
    assert run_in_runtime(model, feeds)[0] == pytest.approx(np.log(before), abs=1e-4)


def test_the_node_stays_whole_in_the_file_and_is_inlined_by_the_stock_runtime(
    tmp_path: Path,
) -> None:
    model = build_similarity("softmax", scale=SCALE)
    assert [node.op_type for node in model.graph.node if node.domain == DOMAIN] == [
        OP_TYPES["softmax"]
    ]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3  # saving an optimised model for this machine alone is the aim
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    ran = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert {"ReduceL2", "Softmax"} <= ran
    assert OP_TYPES["softmax"] not in ran


def test_the_node_can_end_an_encoder_graph_of_another_opset() -> None:
    graph = onnx.parser.parse_graph(
        "tail (float[n, 8] pixels) => (float[n, 8] embedding) <float[2, 8] bank ="
        " {1,0,0,0,0,0,0,0, 0,1,0,0,0,0,0,0}> { embedding = Identity(pixels) }"
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10
    )
    attach_similarity(model, "sigmoid", "embedding", "bank", "scores", scale=2.0, bias=1.0)
    onnx.checker.check_model(model, full_check=True)
    scores, embedding = run_in_runtime(model, {"pixels": np.eye(8, dtype=np.float32)[:3]})
    assert embedding.shape == (3, 8)
    assert scores[:, 0] == pytest.approx(1 / (1 + np.exp([-3.0, -1.0, -1.0])), abs=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_model_of_the_node_alone_gives_the_same_scores(kind: Kind) -> None:
    rng = np.random.default_rng(0)
    given = {"embeddings": rng.normal(size=(3, 8)), "classes": rng.normal(size=(5, 8))}
    feeds = {name: rows.astype(np.float32) for name, rows in given.items()}
    scores = [
        onnxruntime.InferenceSession(build(kind, scale=7.0, bias=-1.0).SerializeToString()).run(
            ["scores"], feeds
        )[0]
        for build in (build_node, build_similarity)
    ]
    np.testing.assert_array_equal(*scores)
