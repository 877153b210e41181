"""The shipped image graph as it would be in fp32, to know what int8 gains: its speed's reference.

The bundle holds the int8 graph alone. Weights are read back as floats, and the rounding between
layers goes; where rounding also cut values off at 0, a Clip does. What must stay true: nothing but
the precision differs, so that a ratio of speeds speaks of int8 and not of another graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

_ROUND, _READ = "QuantizeLinear", "DequantizeLinear"
Tensors = dict[str, TensorProto]


def write_plain(small: Path, plain: Path) -> None:
    """Write the fp32 counterpart of the int8 graph in `small`, weights inside."""
    model = onnx.load(str(small))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    _restore(model.graph, stored)
    _drop_unused(model)
    plain.write_bytes(model.SerializeToString())


def _restore(graph: GraphProto, stored: Tensors) -> None:
    """Replace the int8 nodes of `graph` and of its branches, each with its weights."""
    rounded = {n.output[0]: n for n in graph.node if n.op_type == _ROUND}
    kept: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == _ROUND:
            continue
        if node.op_type != _READ:
            kept.append(node)
        elif node.input[0] in rounded:
            kept.append(_let_through(rounded[node.input[0]], node.output[0], stored, graph))
        else:
            graph.initializer.append(_read_weight(node, stored))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _restore(attribute.g, stored)
    del graph.node[:]
    graph.node.extend(kept)


def _let_through(node: NodeProto, name: str, stored: Tensors, graph: GraphProto) -> NodeProto:
    """Return the node that gives `name` what `node` would have rounded: cut off, or as it is."""
    source, scale, zero = node.input
    if numpy_helper.to_array(stored[zero]) > 0:
        return helper.make_node("Identity", [source], [name])
    bounds = {
        f"{name}.low": np.array(0, np.float32),
        f"{name}.high": 255 * _read(stored[scale]),
    }
    for bound, value in bounds.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), bound))
    return helper.make_node("Clip", [source, *bounds], [name])


def _read_weight(node: NodeProto, stored: Tensors) -> TensorProto:
    """Return the floats that a stored weight stands for."""
    weight, scale, zero = (_read(stored[name]) for name in node.input)
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    if scale.ndim:
        along = [-1 if i == axis else 1 for i in range(weight.ndim)]
        scale, zero = scale.reshape(along), zero.reshape(along)
    return numpy_helper.from_array(((weight - zero) * scale).astype(np.float32), node.output[0])


def _read(tensor: TensorProto) -> NDArray[np.float32]:
    values: NDArray[np.float32] = numpy_helper.to_array(tensor).astype(np.float32)
    return values


def _drop_unused(model: ModelProto) -> None:
    """Leave only the weights that a node reads."""
    read = set(_list_inputs(model.graph))
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _list_inputs(graph: GraphProto) -> Iterable[str]:
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _list_inputs(attribute.g)
