"""Names and dependencies inside a graph: which values a node reads, renaming, pruning.

What must stay true: values that a subgraph takes from outside count as read by its node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx

from twinlens.errors import BundleError


def prune(graph: onnx.GraphProto, outputs: Sequence[str]) -> None:
    """Keep only the dependencies of `outputs`; raise if the graph computes no such value."""
    needed = set(outputs)
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(list_reads(node))
    made = {name for node in kept for name in node.output}
    missing = [name for name in outputs if name not in made]
    if missing:
        raise BundleError(f"the graph computes no value named {missing[0]!r}")
    _replace(graph.node, reversed(kept))
    for field in (graph.initializer, graph.input):
        _replace(field, [item for item in field if item.name in needed])
    sparse = [item for item in graph.sparse_initializer if item.values.name in needed]
    _replace(graph.sparse_initializer, sparse)
    constants = {item.name for item in graph.initializer}
    _replace(graph.input, [item for item in graph.input if item.name not in constants])
    del graph.value_info[:]
    del graph.output[:]


def list_reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the values that a node reads, including those that its subgraphs may capture."""
    yield from node.input
    for graph in list_subgraphs(node):
        for inner in graph.node:
            yield from list_reads(inner)
        yield from (value.name for value in graph.output)


def list_subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give values other names, inside subgraphs too."""
    for node in graph.node:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                if name in names:
                    field[i] = names[name]
        for inner in list_subgraphs(node):
            rename(inner, names)
    for values in (graph.initializer, graph.input, graph.output, graph.value_info):
        for value in values:
            value.name = names.get(value.name, value.name)
    for item in graph.sparse_initializer:
        item.values.name = names.get(item.values.name, item.values.name)


def strip_notes(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: they may hold paths of the machine that wrote the file."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.producer_name, model.producer_version = "twinlens", ""
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input):
        part.doc_string = ""
        del part.metadata_props[:]


def _replace(field: object, items: object) -> None:
    kept = list(items)  # type: ignore[call-overload]
    del field[:]  # type: ignore[attr-defined]
    field.extend(kept)  # type: ignore[attr-defined]
