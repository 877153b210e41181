"""Adds the similarity node to graphs: `similarity.onnx` of a bundle, or the end of an encoder.

What must stay true: scale and bias are initializers, so that a file alone defines its scores.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from twinlens.kernels.onnx.functions import OPSET, add_function, similarity_function, topk_function
from twinlens.kernels.onnx.register import DOMAIN, OP_TYPES, TOP_K, Kind

IR_VERSION: Final = 10


def build_similarity(kind: Kind, *, scale: float, bias: float = 0.0) -> onnx.ModelProto:
    """Return the similarity model of a bundle.

    Inputs `embeddings` (n, d) and `classes` (m, d), both of unit rows; outputs `scores` (n, m) from
    the node and `similarities` (n, m), the cosines themselves.
    """
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["classes"], ["class_columns"], perm=[1, 0]),
            helper.make_node("MatMul", ["embeddings", "class_columns"], ["similarities"]),
        ],
        "similarity",
        [_rows("embeddings", "n", "d"), _rows("classes", "m", "d")],
        [_rows("similarities", "n", "m")],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="twinlens",
    )
    attach_similarity(model, kind, "embeddings", "classes", "scores", scale=scale, bias=bias)
    onnx.checker.check_model(model, full_check=True)
    return model


def build_node(kind: Kind, *, scale: float, bias: float = 0.0) -> onnx.ModelProto:
    """Return a model of the node alone: `embeddings` (n, d) and `classes` (m, d) to `scores`."""
    given = [_rows("embeddings", "n", "d"), _rows("classes", "m", "d")]
    model = helper.make_model(
        helper.make_graph([], "node", given, []),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="twinlens",
    )
    attach_similarity(model, kind, "embeddings", "classes", "scores", scale=scale, bias=bias)
    onnx.checker.check_model(model, full_check=True)
    return model


def build_topk(*, scale: float) -> onnx.ModelProto:
    """Return a model that returns the k best of very many classes.

    Inputs `embeddings` (n, d), `classes` (m, d) and `k` int64 (1,); outputs `scores` (n, k), best
    first, and `indices` (n, k) of the classes. The scores are probabilities among all m classes.
    """
    node = helper.make_node(
        TOP_K,
        ["embeddings", "classes", "scale", "k"],
        ["scores", "indices"],
        domain=DOMAIN,
        name="topk_node",
    )
    graph = helper.make_graph(
        [node],
        "topk",
        [
            _rows("embeddings", "n", "d"),
            _rows("classes", "m", "d"),
            helper.make_tensor_value_info("k", TensorProto.INT64, [1]),
        ],
        [
            _rows("scores", "n", "k"),
            helper.make_tensor_value_info("indices", TensorProto.INT64, ["n", "k"]),
        ],
        [numpy_helper.from_array(np.asarray(scale, np.float32), "scale")],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(
        graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="twinlens"
    )
    add_function(model, topk_function())
    onnx.checker.check_model(model, full_check=True)
    return model


def attach_similarity(
    model: onnx.ModelProto,
    kind: Kind,
    embeddings: str,
    classes: str,
    scores: str,
    *,
    scale: float,
    bias: float = 0.0,
) -> None:
    """Append the node to `model`: `scores` becomes an output (n, m), its first.

    `embeddings` and `classes` name existing values of the graph.
    """
    values = {f"{scores}_scale": scale}
    if kind == "sigmoid":
        values[f"{scores}_bias"] = bias
    for name, value in values.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    model.graph.node.append(
        helper.make_node(
            OP_TYPES[kind],
            [embeddings, classes, *values],
            [scores],
            domain=DOMAIN,
            name=f"{scores}_node",
        )
    )
    model.graph.output.insert(0, _rows(scores, "n", "m"))
    add_function(model, similarity_function(kind))


def _rows(name: str, rows: str, columns: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, columns])
