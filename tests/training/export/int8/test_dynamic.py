"""int8 matrix products: the graph of ONNX Runtime's own quantiser in a fraction of its time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from twinlens.training.export.int8.dynamic import PRODUCTS, quantise_channels, write_dynamic
from twinlens.training.export.log_filter import drop_log_message


def save_products(path: Path, *, constant: bool = True) -> None:
    """Write two products: a MatMul and a Gemm with a transposed weight, one row of it zero."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(40, 24)), rng.normal(size=(16, 24)) * 1e-3
    second[3] = 0
    weights = {"a": first, "b": second, "bias": rng.normal(size=16)}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["y"], name="first"),
        helper.make_node("Gemm", ["y", "b", "bias"], ["z"], name="second", transB=1),
    ]
    if not constant:
        nodes = [helper.make_node("MatMul", ["x", "x"], ["z"])]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 40])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]), str(path))


def test_the_graph_equals_that_of_onnx_runtimes_own_quantiser(tmp_path: Path) -> None:
    save_products(tmp_path / "plain.onnx")
    assert write_dynamic(tmp_path / "plain.onnx", tmp_path / "ours.onnx")
    with drop_log_message("pre-processing before quantization"):
        quantize_dynamic(
            tmp_path / "plain.onnx",
            tmp_path / "theirs.onnx",
            op_types_to_quantize=list(PRODUCTS),
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
        )
    ours, theirs = (onnx.load(str(tmp_path / name)) for name in ("ours.onnx", "theirs.onnx"))
    assert [node.SerializeToString() for node in ours.graph.node] == [
        node.SerializeToString() for node in theirs.graph.node
    ]
    mine, other = ({w.name: w for w in model.graph.initializer} for model in (ours, theirs))
    assert mine.keys() == other.keys()
    assert sum(w.data_type == TensorProto.INT8 for w in mine.values()) == 4
    for name, weight in mine.items():
        found, expected = numpy_helper.to_array(weight), numpy_helper.to_array(other[name])
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_a_graph_without_constant_products_writes_nothing(tmp_path: Path) -> None:
    save_products(tmp_path / "plain.onnx", constant=False)
    assert not write_dynamic(tmp_path / "plain.onnx", tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_channel_has_its_own_scale_and_half_a_step_of_error(axis: int) -> None:
    weights = np.random.default_rng(1).normal(size=(5, 6, 7)).astype(np.float32)
    weights *= (
        np.logspace(-6, 3, weights.shape[axis])
        .reshape([-1 if i == axis else 1 for i in range(3)])
        .astype(np.float32)
    )
    found, scales = quantise_channels(weights, axis)
    wide = scales.reshape([-1 if i == axis else 1 for i in range(3)])
    assert np.abs(found).max() == 127
    assert (np.abs(found * wide - weights) <= 0.5001 * wide).all()
