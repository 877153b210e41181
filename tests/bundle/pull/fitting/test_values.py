"""Pruning keeps what an output needs, also through subgraphs; renaming reaches into them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from twinlens.bundle.pull.fitting.values import prune, rename
from twinlens.errors import BundleError


def build_graph() -> onnx.GraphProto:
    """Return a graph whose branch reads `inner` from outside itself."""
    branch = [
        helper.make_graph(
            [helper.make_node("Identity", [name], [f"{name}_copy"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_copy", TensorProto.FLOAT, None)],
        )
        for name in ("inner", "x")
    ]
    nodes = [
        helper.make_node("Mul", ["x", "weight"], ["inner"]),
        helper.make_node("Neg", ["y"], ["unused"]),
        helper.make_node("If", ["flag"], ["out"], then_branch=branch[0], else_branch=branch[1]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, kind, [1])
        for name, kind in (("x", 1), ("y", 1), ("flag", TensorProto.BOOL))
    ]
    outputs = [helper.make_tensor_value_info(name, 1, [1]) for name in ("out", "unused")]
    weights = [numpy_helper.from_array(np.ones(1, np.float32), n) for n in ("weight", "other")]
    return helper.make_graph(nodes, "graph", inputs, outputs, weights)


def test_what_a_branch_reads_from_outside_is_kept() -> None:
    graph = build_graph()
    prune(graph, ["out"])
    assert [node.op_type for node in graph.node] == ["Mul", "If"]
    assert [item.name for item in graph.input] == ["x", "flag"]
    assert [item.name for item in graph.initializer] == ["weight"]


def test_an_output_that_nothing_makes_is_named() -> None:
    with pytest.raises(BundleError, match="'nothing'"):
        prune(build_graph(), ["nothing"])


def test_a_new_name_reaches_into_branches() -> None:
    graph = build_graph()
    rename(graph, {"inner": "other_inner"})
    assert graph.node[0].output[0] == "other_inner"
    branch = next(a.g for a in graph.node[2].attribute if a.name == "then_branch")
    assert branch.node[0].input[0] == "other_inner"
