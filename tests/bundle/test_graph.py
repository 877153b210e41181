"""Where an ONNX file reads its weights from: the small reader against the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from twinlens.bundle.graph import list_external_files
from twinlens.errors import BundleError


def external(name: str, location: str) -> TensorProto:
    """Return a tensor that says that its values lie in a file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def build(*nodes: onnx.NodeProto, initializers: list[TensorProto] | None = None) -> bytes:
    graph = helper.make_graph(list(nodes), "g", [], [], initializer=initializers or [])
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


def read(folder: Path, content: bytes) -> set[str]:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return list_external_files(path)


def test_weights_are_found_at_every_depth(tmp_path: Path) -> None:
    """In initializers, constants, subgraphs within subgraphs, sparse tensors and functions."""
    inner = helper.make_graph([], "inner", [], [], initializer=[external("w", "inner.bin")])
    outer = helper.make_graph(
        [helper.make_node("If", ["c"], [], then_branch=inner, else_branch=inner)],
        "outer",
        [],
        [],
        initializer=[external("w", "outer.bin")],
    )
    sparse = onnx.SparseTensorProto(dims=[4])
    sparse.values.CopyFrom(external("v", "values.bin"))
    sparse.indices.CopyFrom(external("i", "indices.bin"))
    nodes = [
        helper.make_node("Constant", [], ["a"], value=external("a", "constant.bin")),
        helper.make_node("Loop", ["n"], [], body=outer),
        helper.make_node("Constant", [], ["s"], sparse_value=sparse),
    ]
    model = onnx.ModelProto()
    model.ParseFromString(build(*nodes, initializers=[external("w", "top.bin")]))
    constant = helper.make_node("Constant", [], ["f"], value=external("f", "function.bin"))
    model.functions.append(helper.make_function("d", "F", [], ["f"], [constant], []))
    names = ("top", "constant", "outer", "inner", "values", "indices", "function")
    found = read(tmp_path, model.SerializeToString())
    assert found == {f"{name}.bin" for name in names}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), max_size=4), st.integers(0, 3))
def test_locations_are_those_that_onnx_wrote(
    tmp_path_factory: pytest.TempPathFactory, locations: list[str], inside: int
) -> None:
    tensors = [external(f"w{n}", location) for n, location in enumerate(locations)]
    tensors += [numpy_helper.from_array(np.ones(n + 1, np.float32), f"i{n}") for n in range(inside)]
    folder = tmp_path_factory.mktemp("graph")
    assert read(folder, build(initializers=tensors)) == set(locations)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_and_never_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(build(initializers=[external("w", "weights.bin")]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    try:
        assert isinstance(read(tmp_path_factory.mktemp("damaged"), bytes(content)), set)
    except BundleError as error:
        assert "model.onnx" in str(error)


def test_an_empty_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx is empty"):
        read(tmp_path, b"")
