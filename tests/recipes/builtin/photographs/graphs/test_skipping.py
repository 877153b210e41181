"""Drawings skip the photographs' tower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from recipes.builtin.photographs.graphs.skipping import find_branch, skip_for_drawings

rng = np.random.default_rng(0)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph in the shape of the joined one; the first gate is the first number, cut to 0..1."""
    weights = {
        "tower.drawings.read": rng.normal(size=(4, 3)),
        "tower.photos.read": rng.normal(size=(4, 3)),
        "tower.first_gate.weight": np.array([[1.0], [0], [0], [0]]),
        "tower.last_gate.weight": np.zeros((4, 1)),
        "low": np.array(0.0),
        "high": np.array(1.0),
        "axis": np.array([1]),
    }
    nodes = [
        helper.make_node("Identity", ["pixels"], ["add"]),
        helper.make_node("Exp", ["add"], ["loud"]),
        helper.make_node("MatMul", ["loud", "tower.photos.read"], ["photo"]),
        helper.make_node("MatMul", ["loud", "tower.last_gate.weight"], ["last"]),
        helper.make_node("MatMul", ["add", "tower.drawings.read"], ["drawing"]),
        helper.make_node("MatMul", ["add", "tower.first_gate.weight"], ["first_raw"]),
        helper.make_node("Squeeze", ["first_raw", "axis"], ["first_flat"]),
        helper.make_node("Clip", ["first_flat", "low", "high"], ["first"]),
        helper.make_node("Squeeze", ["last", "axis"], ["last_flat"]),
        helper.make_node("Max", ["first", "last_flat"], ["drawn_flat"]),
        helper.make_node("Unsqueeze", ["drawn_flat", "axis"], ["drawn"]),
        helper.make_node("Sub", ["high", "drawn"], ["other"]),
        helper.make_node("Mul", ["drawn", "drawing"], ["one_half"]),
        helper.make_node("Mul", ["other", "photo"], ["other_half"]),
        helper.make_node("Concat", ["one_half", "other_half"], ["embedding"], axis=1),
    ]
    stored = [
        numpy_helper.from_array(v if v.dtype == np.int64 else v.astype(np.float32), name)
        for name, v in weights.items()
    ]
    made = helper.make_graph(
        nodes,
        "joined",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 6])],
        stored,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    file = tmp_path / "joined.onnx"
    onnx.save(model, str(file))
    return file


def run(file: Path, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    rows: NDArray[np.float32] = session.run(None, {"pixels": pixels})[0]
    return rows


def draw(*drawn: float) -> NDArray[np.float32]:
    pixels = rng.normal(size=(len(drawn), 4)).astype(np.float32)
    pixels[:, 0] = drawn
    return pixels


@pytest.mark.parametrize("drawn", [(0, 1, 0.5, 2, 0.1), (1, 3), (0.2,), (1,)])
def test_rows_stay_what_they_were_in_every_mixture(graph: Path, drawn: tuple[float, ...]) -> None:
    pixels = draw(*drawn)
    before = run(graph, pixels)
    skip_for_drawings(graph)
    onnx.checker.check_model(str(graph), full_check=True)
    assert np.array_equal(run(graph, pixels), before)


def test_the_branch_sees_only_what_the_first_gate_leaves(graph: Path) -> None:
    skip_for_drawings(graph)
    loud = draw(1, 2, 0.5)
    loud[:2] = 1e30  # e to it is infinite, and 0 x infinity would be no number
    rows = run(graph, loud)
    assert np.isfinite(rows).all()


def test_the_branch_is_what_photographs_alone_need(graph: Path) -> None:
    branch = find_branch(onnx.load(str(graph)))
    assert {name for node in branch.nodes for name in node.output} == {
        *("loud", "photo", "last", "last_flat"),
    }
    assert (branch.reads, branch.gate) == ("add", "first")
    assert branch.gives == ["last_flat", "photo"]
