"""Runs a graph that takes exactly one item over a batch, item by item.

What must stay true: the weights stay outside the loop's body, so that the runtime prepares them
once for all items.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

from twinlens.bundle.pull.fitting.inputs import GraphInput
from twinlens.bundle.pull.fitting.nodes import PREFIX, Nodes
from twinlens.bundle.pull.fitting.values import rename
from twinlens.errors import BundleError


def has_batch_of_one(inputs: Sequence[GraphInput], file: str) -> bool:
    """Return whether the graph takes one item at a time; raise for another fixed batch."""
    sizes = {item.batch for item in inputs} - {0}
    if sizes - {1}:
        raise BundleError(
            f"{file}: the graph takes batches of exactly {max(sizes)} items; only graphs with a "
            "free batch or a batch of one can be pulled: export it again with a dynamic first axis"
        )
    return bool(sizes)


def loop_over_items(
    graph: onnx.GraphProto,
    inputs: Sequence[GraphInput],
    output: onnx.ValueInfoProto,
    nodes: Nodes,
) -> dict[str, str]:
    """Put the graph's nodes into a loop over the first axis; return the new name of each input.

    The loop's result has the name `output`.
    """
    one, row = f"{PREFIX}one_{output.name}", f"{PREFIX}row"
    rename(graph, {output.name: one})
    items = {item.name: f"{PREFIX}item_{item.name}" for item in inputs}
    for name, item in items.items():
        nodes.over_axes("Unsqueeze", item, 0, output=name)
    before = nodes.take()
    nodes.over_axes("Squeeze", one, 0, output=row)
    body = helper.make_graph(
        [*before, *graph.node, *nodes.take()],
        "one_item",
        [helper.make_tensor_value_info(items[i.name], i.element_type, None) for i in inputs],
        [helper.make_tensor_value_info(row, output.type.tensor_type.elem_type, None)],
    )
    whole = {name: f"{PREFIX}all_{name}" for name in items}
    del graph.node[:]
    loop = helper.make_node(
        "Scan", [whole[item.name] for item in inputs], [output.name], name=f"{PREFIX}items",
        num_scan_inputs=len(inputs), body=body,
    )  # fmt: skip
    graph.node.append(loop)
    return whole
