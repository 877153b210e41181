"""A foreign graph to a bundle's tower: cut out, with the bundle's inputs and output.

What must stay true: the original file is not changed; external weights are copied unchanged and
never loaded as a whole.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from twinlens.bundle.pull.fitting.batches import has_batch_of_one, loop_over_items
from twinlens.bundle.pull.fitting.faces import (
    EMBEDDING,
    RESERVED,
    PixelRule,
    TokenRule,
    add_head,
    add_mask,
    add_pixel_face,
    add_token_face,
)
from twinlens.bundle.pull.fitting.inputs import GraphInput, find_input, read_inputs
from twinlens.bundle.pull.fitting.nodes import Nodes, read_opset
from twinlens.bundle.pull.fitting.values import prune, rename, strip_notes
from twinlens.bundle.pull.head import TowerHead
from twinlens.errors import BundleError

_OLDEST_OPSET = 11  # the first with CumSum, which separates padding from the text


def fit_tower(
    model: onnx.ModelProto,
    head: TowerHead,
    rule: PixelRule | TokenRule,
    dimension: int,
    file: str,
) -> None:
    """Turn `model` into a tower in place."""
    opset = read_opset(model)
    if opset < _OLDEST_OPSET:
        raise BundleError(
            f"{file}: the graph is of opset {opset}; graphs from {_OLDEST_OPSET} on can be pulled"
        )
    graph = model.graph
    output = find_output(graph, head.output, file)
    rank = len(output.type.tensor_type.shape.dim)
    prune(graph, [head.output])
    taken = {name: f"source_{name}" for name in RESERVED}
    rename(graph, taken)
    head = TowerHead(taken.get(head.output, head.output), head.pooling, head.layers)
    output.name = head.output
    inputs = read_inputs(graph, file)
    check_inputs(inputs, rule, file)
    nodes = Nodes(opset)
    names = {item.name: item.name for item in inputs}
    if has_batch_of_one(inputs, file):
        names = loop_over_items(graph, inputs, output, nodes)
    face = _add_face(nodes, inputs, names, rule)
    mask = add_mask(nodes, rule) if isinstance(rule, TokenRule) and head.pooling else ""
    before = nodes.take()
    add_head(nodes, head, rank, mask)
    inner = [*before, *graph.node, *nodes.take()]
    del graph.node[:], graph.input[:]
    graph.node.extend(inner)
    graph.initializer.extend(nodes.constants)
    graph.input.append(face)
    shape: list[int | str | None] = ["n", dimension]
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, shape))
    strip_notes(model)


def find_output(graph: onnx.GraphProto, name: str, file: str) -> onnx.ValueInfoProto:
    """Return a copy of the declaration of the output `name`."""
    for value in graph.output:
        if value.name == name:
            found = onnx.ValueInfoProto()
            found.CopyFrom(value)
            return found
    names = ", ".join(value.name for value in graph.output)
    raise BundleError(f"{file}: the graph has no output {name!r}; it has {names}")


def check_inputs(inputs: list[GraphInput], rule: PixelRule | TokenRule, file: str) -> None:
    """Raise unless the graph reads only pixels, or only texts, as the tower does."""
    images = isinstance(rule, PixelRule)
    other = [item.name for item in inputs if (item.role == "pixels") != images]
    if other:
        raise BundleError(
            f"{file}: the {'image' if images else 'text'} output also depends on {other[0]!r}; "
            "the towers of this graph cannot be separated"
        )
    if find_input(inputs, "pixels" if images else "ids") is None:
        raise BundleError(f"{file}: the graph takes no {'pixels' if images else 'token ids'}")


def read_model(path: Path) -> onnx.ModelProto:
    """Return the graph at `path`; weights in files beside it stay there."""
    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own classes, by the implementation in use
        raise BundleError(f"{path.name} is not an ONNX graph: {error}") from None


def save_model(model: onnx.ModelProto, path: Path, places: dict[str, str]) -> None:
    """Write the graph; `places` maps the old locations of its weights to the new ones."""
    for tensor in list_tensors(model.graph):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = places[entry.value]
    path.write_bytes(model.SerializeToString())


def list_tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Return every tensor of the graph that may be in another file, subgraphs included."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t] if attribute.HasField("t") else []
            found += attribute.tensors
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                found += list_tensors(inner)
    return found


def _add_face(
    nodes: Nodes, inputs: list[GraphInput], names: dict[str, str], rule: PixelRule | TokenRule
) -> onnx.ValueInfoProto:
    if isinstance(rule, TokenRule):
        return add_token_face(nodes, inputs, names, rule)
    return add_pixel_face(nodes, inputs[0], names[inputs[0].name], rule)
