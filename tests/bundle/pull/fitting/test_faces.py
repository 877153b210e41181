"""Masks, pooling and positions made inside a graph equal what NumPy makes by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from twinlens.bundle.pull.fitting.faces import TokenRule, add_head, add_mask
from twinlens.bundle.pull.fitting.nodes import Nodes
from twinlens.bundle.pull.head import POOLINGS, Dense, TowerHead, apply_head

TOKENS = np.array([[2, 5, 3, 0, 0], [2, 0, 6, 7, 3], [2, 3, 0, 0, 0]], np.int64)


def run(nodes: Nodes, feeds: dict[str, NDArray[Any]], output: str, kind: int) -> NDArray[Any]:
    kinds = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
    inputs = [
        helper.make_tensor_value_info(name, kinds[str(v.dtype)], [None] * v.ndim)
        for name, v in feeds.items()
    ]
    outputs = [helper.make_tensor_value_info(output, kind, None)]
    graph = helper.make_graph(nodes.nodes, "test", inputs, outputs, nodes.constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", nodes.opset)], ir_version=8
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    answer: NDArray[Any] = session.run([output], feeds)[0]
    return answer


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # A padding token inside a text is part of it.
        (TokenRule(0), [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]),
        # The first closing token is seen, its repetitions are not.
        (TokenRule(3, ends_with_pad=True), [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]),
        (TokenRule(0, sees_padding=True), [[1] * 5] * 3),
    ],
)
def test_a_mask_marks_the_text(rule: TokenRule, expected: list[list[int]], opset: int) -> None:
    nodes = Nodes(opset)
    tokens = np.where(TOKENS == 0, 3, TOKENS) if rule.ends_with_pad else TOKENS
    if rule.ends_with_pad:
        tokens[1, 1] = 5
    mask = add_mask(nodes, rule)
    assert run(nodes, {"tokens": tokens}, mask, TensorProto.INT64).tolist() == expected


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("pooling", [p for p in POOLINGS if p != "pooler_output"])
@pytest.mark.parametrize("activation", ["identity", "tanh", "relu", "sigmoid"])
def test_a_head_in_the_graph_equals_the_head_in_numpy(
    pooling: str, activation: str, opset: int
) -> None:
    rng = np.random.default_rng(1)
    states = rng.standard_normal((3, 5, 4)).astype(np.float32)
    weight, bias = (rng.standard_normal(s).astype(np.float32) for s in ((6, 4), (6,)))
    head = TowerHead("states", pooling, (Dense(weight, bias, activation), Dense(weight.T)))
    nodes = Nodes(opset)
    add_head(nodes, head, 3, add_mask(nodes, TokenRule(0)))
    feeds: dict[str, NDArray[Any]] = {"tokens": TOKENS, "states": states}
    found = run(nodes, feeds, "embedding", TensorProto.FLOAT)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    np.testing.assert_allclose(found, apply_head(head, states, mask), atol=1e-5)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_a_map_is_averaged_over_its_places() -> None:
    states = np.random.default_rng(2).standard_normal((2, 6, 3, 4)).astype(np.float32)
    nodes = Nodes(17)
    add_head(nodes, TowerHead("states", "mean"), 4, "")
    found = run(nodes, {"states": states}, "embedding", TensorProto.FLOAT)
    expected = states.mean((2, 3))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_half_precision_ends_at_the_head(tmp_path: Path) -> None:
    nodes = Nodes(17)
    add_head(nodes, TowerHead("half"), 2, "")
    rows = np.array([[300.0, 400.0]], np.float32)
    cast = helper.make_node("Cast", ["rows"], ["half"], to=TensorProto.FLOAT16)
    nodes.nodes.insert(0, cast)
    found = run(nodes, {"rows": rows}, "embedding", TensorProto.FLOAT)
    np.testing.assert_allclose(found, [[0.6, 0.8]], atol=1e-6)  # 300 squared is beyond float16
    assert isinstance(nodes.nodes[1], onnx.NodeProto)
