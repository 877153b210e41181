"""Input and output nodes of a fitted tower: uint8 pixels or int64 tokens in, unit float32 rows out.

What must stay true: a row depends only on its own item; padded tokens are masked wherever the graph
has a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from twinlens.bundle.pull.fitting.inputs import GraphInput
from twinlens.bundle.pull.fitting.nodes import Nodes
from twinlens.bundle.pull.head import Dense, TowerHead

PIXELS: Final = "pixels"
TOKENS: Final = "tokens"
EMBEDDING: Final = "embedding"
RESERVED: Final = (PIXELS, TOKENS, EMBEDDING)

_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid"}


@dataclass(frozen=True)
class PixelRule:
    """How uint8 pixels become the graph's: size, mean and standard deviation per channel."""

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class TokenRule:
    """How padding is recognised, for graphs with a mask.

    `ends_with_pad`: every text ends with one token that is also the padding. `sees_padding`: the
    model was trained on padded texts without a mask, so all positions count.
    """

    pad_id: int
    ends_with_pad: bool = False
    sees_padding: bool = False


def add_pixel_face(
    nodes: Nodes, source: GraphInput, name: str, rule: PixelRule
) -> onnx.ValueInfoProto:
    """Append the nodes from uint8 pixels to the value `name`; return the new input."""
    mean, std = np.array(rule.mean), np.array(rule.std)
    scale = nodes.constant((1 / (255 * std)).astype(np.float32))
    shift = nodes.constant((-mean / std).astype(np.float32))
    channels_last = source.shape[3] == 3 and source.shape[1] != 3
    value = nodes.cast(PIXELS, TensorProto.FLOAT)
    value = nodes.add("Add", nodes.add("Mul", value, scale), shift)
    if not channels_last:
        value = nodes.add("Transpose", value, perm=[0, 3, 1, 2])
    nodes.cast(value, source.element_type, output=name)
    shape: list[int | str | None] = ["n", rule.height, rule.width, 3]
    return helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, shape)


def add_token_face(
    nodes: Nodes, inputs: Sequence[GraphInput], names: Mapping[str, str], rule: TokenRule
) -> onnx.ValueInfoProto:
    """Append the nodes from int64 tokens to the graph's inputs; return the new input."""
    length: int | str = "length"
    for item in inputs:
        name = names[item.name]
        if item.role == "ids":
            nodes.cast(TOKENS, item.element_type, output=name)
            length = item.shape[1] or "length"
        elif item.role == "mask":
            nodes.cast(add_mask(nodes, rule), item.element_type, output=name)
        elif item.role == "token_types":
            nodes.cast(_zeros(nodes), item.element_type, output=name)
        else:
            nodes.cast(_positions(nodes), item.element_type, output=name)
    return helper.make_tensor_value_info(TOKENS, TensorProto.INT64, ["n", length])


def add_mask(nodes: Nodes, rule: TokenRule) -> str:
    """Append a mask (n, length) of int64 from the tokens: 1 for the text, 0 for its padding."""
    zero = nodes.constant(np.array(0, np.int64))
    axis = nodes.constant(np.array(1, np.int64))
    pad = nodes.constant(np.array(rule.pad_id, np.int64))
    is_pad = nodes.add("Equal", TOKENS, pad)
    if rule.sees_padding:
        return nodes.add("Add", _zeros(nodes), nodes.constant(np.array(1, np.int64)))
    if rule.ends_with_pad:  # everything after the first such token is padding
        before = nodes.add("CumSum", nodes.cast(is_pad, TensorProto.INT64), axis, exclusive=1)
        return nodes.cast(nodes.add("Equal", before, zero), TensorProto.INT64)
    is_text = nodes.cast(nodes.add("Not", is_pad), TensorProto.INT64)
    after = nodes.add("CumSum", is_text, axis, reverse=1)
    return nodes.cast(nodes.add("Greater", after, zero), TensorProto.INT64)


def add_head(nodes: Nodes, head: TowerHead, rank: int, mask: str) -> None:
    """Append the nodes from the graph's output to the unit rows `embedding`.

    `mask` names a mask (n, length), or is "" for images.
    """
    rows = nodes.cast(head.output, TensorProto.FLOAT)
    if head.pooling:
        rows = _pool(nodes, head.pooling, rows, rank, mask)
    for layer in head.layers:
        rows = _add_dense(nodes, rows, layer)
    nodes.normalise(rows, EMBEDDING)


def _pool(nodes: Nodes, pooling: str, rows: str, rank: int, mask: str) -> str:
    if rank == 4:
        return nodes.over_axes("ReduceMean", rows, 2, 3, keepdims=0)
    if pooling == "cls":
        return nodes.add("Gather", rows, nodes.constant(np.array(0, np.int64)), axis=1)
    if not mask:
        return nodes.over_axes(
            "ReduceMax" if pooling == "max" else "ReduceMean", rows, 1, keepdims=0
        )
    if pooling == "max":
        seen = nodes.cast(nodes.over_axes("Unsqueeze", mask, 2), TensorProto.BOOL)
        least = nodes.constant(np.array(-3e38, np.float32))
        return nodes.over_axes("ReduceMax", nodes.add("Where", seen, rows, least), 1, keepdims=0)
    weights = nodes.cast(_mark_last(nodes, mask) if pooling == "last" else mask, TensorProto.FLOAT)
    total = nodes.over_axes("ReduceSum", weights, 1, keepdims=1)
    summed = nodes.add("MatMul", nodes.over_axes("Unsqueeze", weights, 1), rows)
    return nodes.add("Div", nodes.over_axes("Squeeze", summed, 1), total)


def _mark_last(nodes: Nodes, mask: str) -> str:
    """Append a mask of each text's last token: all tokens up to it belong to the text."""
    axis, one = nodes.constant(np.array(1, np.int64)), nodes.constant(np.array(1, np.int64))
    remaining = nodes.add("CumSum", mask, axis, reverse=1)
    return nodes.cast(nodes.add("Equal", remaining, one), TensorProto.INT64)


def _add_dense(nodes: Nodes, rows: str, layer: Dense) -> str:
    rows = nodes.add("MatMul", rows, nodes.constant(layer.weight.T))
    if layer.bias is not None:
        rows = nodes.add("Add", rows, nodes.constant(layer.bias))
    kind = _ACTIVATIONS.get(layer.activation)
    return nodes.add(kind, rows) if kind else rows


def _zeros(nodes: Nodes) -> str:
    return nodes.add("Sub", TOKENS, TOKENS)


def _positions(nodes: Nodes) -> str:
    ones = nodes.add("Add", _zeros(nodes), nodes.constant(np.array(1, np.int64)))
    axis = nodes.constant(np.array(1, np.int64))
    return nodes.add("CumSum", ones, axis, exclusive=1)
