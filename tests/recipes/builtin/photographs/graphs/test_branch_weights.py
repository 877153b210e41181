"""Weights of a branch's convolutions lie in the branch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, helper, numpy_helper

from recipes.builtin.photographs.graphs.branch_weights import hold_weights

rng = np.random.default_rng(0)
DATA = "graph.data"


def tell(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 32, 8, 8])


def convolve(*weights: str) -> GraphProto:
    nodes = [helper.make_node("Conv", ["pixels", *weights], ["out"], pads=[1, 1, 1, 1])]
    return helper.make_graph(nodes, "branch", [], [tell("out")])


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Two branches of a convolution each, of which one reads the first's weight too."""
    one, other = convolve("own", "bias"), convolve("shared")
    one.node.add().CopyFrom(
        helper.make_node("Conv", ["pixels", "shared"], ["more"], pads=[1, 1, 1, 1])
    )
    nodes = [
        helper.make_node("ReduceMax", ["pixels"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "none"], ["any"]),
        helper.make_node("If", ["any"], ["rows"], then_branch=one, else_branch=other),
    ]
    values = {
        "own": rng.normal(size=(32, 32, 3, 3)),
        "bias": rng.normal(size=32),
        "shared": rng.normal(size=(32, 32, 3, 3)),
        "none": np.array(0.0),
    }
    stored = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in values.items()]
    made = helper.make_graph(nodes, "whole", [tell("pixels")], [tell("rows")], stored)
    file = tmp_path / "graph.onnx"
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(file), save_as_external_data=True, location=DATA, size_threshold=1024)
    return file


def run(file: Path, sign: float) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    pixels = sign * np.abs(np.random.default_rng(1).normal(size=(2, 32, 8, 8)))
    rows: NDArray[np.float32] = session.run(None, {"pixels": pixels.astype(np.float32)})[0]
    return rows


def list_stored(file: Path) -> tuple[set[str], set[str]]:
    """Return the names of weights of the whole graph, and of its branches."""
    graph = onnx.load(str(file), load_external_data=False).graph
    inside = {
        tensor.name
        for node in graph.node
        for attribute in node.attribute
        for tensor in attribute.g.initializer
    }
    return {tensor.name for tensor in graph.initializer}, inside


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rows_stay_what_they_were(graph: Path, sign: float) -> None:
    before = run(graph, sign)
    hold_weights(graph)
    onnx.checker.check_model(str(graph), full_check=True)
    assert np.abs(run(graph, sign) - before).max() < 1e-4


def test_a_branch_holds_what_it_alone_reads(graph: Path) -> None:
    assert list_stored(graph) == ({"own", "bias", "shared", "none"}, set())
    hold_weights(graph)
    assert list_stored(graph) == ({"shared", "none"}, {"own", "bias"})


def test_weights_that_were_moved_need_no_data_file(graph: Path) -> None:
    hold_weights(graph)
    model = onnx.load(str(graph), load_external_data=False)
    (branch,) = (a.g for a in model.graph.node[-1].attribute if a.g.initializer)
    assert all(not tensor.external_data for tensor in branch.initializer)


def test_int8_weights_stay_outside(graph: Path) -> None:
    model = onnx.load(str(graph))
    for tensor in model.graph.initializer:
        if tensor.name == "own":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((32, 32, 3, 3), np.int8), "own"))
    onnx.save(model, str(graph))
    hold_weights(graph)
    assert list_stored(graph) == ({"own", "shared", "none"}, {"bias"})
