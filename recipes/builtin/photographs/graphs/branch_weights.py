"""Weights of a branch's fp32 convolutions lie in the branch: there ONNX Runtime lays them out anew.

On a CPU a convolution runs fastest on channels in blocks, and ONNX Runtime arranges a weight so
only if the graph that reads it also holds it; int8 convolutions ask for no such thing. What must
stay true: no number of any weight changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import GraphProto, TensorProto
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data


def hold_weights(file: Path) -> None:
    """Move fp32 weights that one branch's convolutions alone read into it, out of the data file.

    Their bytes in the data file stay behind, unread.
    """
    model = onnx.load(str(file), load_external_data=False)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    branches = list(list_branches(model.graph))
    moved: set[str] = set()
    for branch in branches:
        others = [model.graph, *(one for one in branches if one is not branch)]
        shared = {name for graph in others for node in graph.node for name in node.input}
        for name in list_weights(branch):
            tensor = stored.get(name)
            if tensor is None or tensor.data_type != TensorProto.FLOAT or name in shared | moved:
                continue
            if uses_external_data(tensor):
                load_external_data_for_tensor(tensor, str(file.parent))
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
            branch.initializer.append(tensor)
            moved.add(name)
    kept = [tensor for name, tensor in stored.items() if name not in moved]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    file.write_bytes(model.SerializeToString())


def list_branches(graph: GraphProto) -> Iterable[GraphProto]:
    """Return the graphs inside nodes of a graph."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g


def list_weights(graph: GraphProto) -> Iterable[str]:
    """Return the names of what a graph's convolutions read beside pixels."""
    for node in graph.node:
        if node.op_type == "Conv":
            yield from node.input[1:]
