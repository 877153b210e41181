"""The shipped image graph in fp32: the same graph, but for the rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto

from recipes.builtin.photographs.graphs.plain import write_plain
from twinlens.bundle.location import PHOTOGRAPHS, find_bundle
from twinlens.training.export.gate import open_graph

SMALL = find_bundle(PHOTOGRAPHS) / "image.int8.onnx"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plain") / "plain.onnx"
    write_plain(SMALL, file)
    return file


def count(graph: GraphProto, kind: str) -> int:
    """Return how many nodes of a kind a graph and its branches have."""
    inside = (a.g for node in graph.node for a in node.attribute if a.HasField("g"))
    own = [node for node in graph.node if node.op_type == kind]
    return len(own) + sum(count(branch, kind) for branch in inside)


def test_nothing_is_rounded_and_no_convolution_is_lost(plain: Path) -> None:
    small, large = (onnx.load(str(file)).graph for file in (SMALL, plain))
    assert count(small, "QuantizeLinear") > 50
    assert count(large, "QuantizeLinear") + count(large, "DequantizeLinear") == 0
    assert count(large, "Conv") == count(small, "Conv") > 50


def test_rows_are_those_of_int8_but_for_rounding(plain: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    rows, exact = (
        open_graph(f, threads=1).run(None, {"pixels": pixels})[0] for f in (SMALL, plain)
    )
    cosines = (rows * exact).sum(1)
    assert cosines.min() > 0.99
    assert np.abs(rows - exact).max() > 1e-4
