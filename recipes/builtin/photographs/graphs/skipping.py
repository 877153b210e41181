"""Drawings skip the photographs' tower: the graph runs it only on the other pictures of a batch.

Where the first gate is 1, a row contains nothing of the photographs' tower. So its nodes move into
a branch that receives the pictures below 1; their results return to their positions among zeros. A
batch of drawings alone takes the empty branch. What must stay true: rows are those of the original
graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

PHOTOGRAPHS = ("tower.photos.", "tower.last_gate.")  # names of weights begin with these
DRAWINGS = ("tower.drawings.", "tower.first_gate.")


@dataclass(frozen=True)
class Branch:
    """The nodes to move, their input tensor, their outputs, and the first gate's tensor."""

    nodes: Sequence[NodeProto]
    reads: str
    gives: Sequence[str]
    gate: str


def skip_for_drawings(file: Path) -> None:
    """Move the photographs' tower of the graph in `file` into a branch; weights stay in place."""
    model = onnx.load(str(file), load_external_data=False)
    branch = find_branch(model)
    shapes = _read_shapes(model, branch.gives)
    moved = {name for node in branch.nodes for name in node.output}
    kept = [node for node in model.graph.node if not moved.intersection(node.output)]
    at = 1 + max(i for i, n in enumerate(kept) if {branch.reads, branch.gate} & set(n.output))
    model.graph.initializer.extend(_constants(shapes))
    new = [*kept[:at], *_choose(branch), _branch_off(branch, shapes), *kept[at:]]
    del model.graph.node[:]
    model.graph.node.extend(new)
    file.write_bytes(model.SerializeToString())


def find_branch(model: ModelProto) -> Branch:
    """Return the part of the graph for photographs alone, found by the names of weights."""
    nodes = list(model.graph.node)
    theirs = _follow(nodes, _list_weights(model, PHOTOGRAPHS))
    both = theirs & _follow(nodes, _list_weights(model, DRAWINGS))
    own = {i for i, n in enumerate(nodes) if theirs & set(n.output) and not both & set(n.output)}
    readers = _find_readers(nodes)
    for i in reversed(range(len(nodes))):  # nodes without users
        used = [reader for name in nodes[i].output for reader in readers.get(name, ())]
        if used and own.issuperset(used):
            own.add(i)
    made = {name for i in own for name in nodes[i].output}
    gives = sorted(name for name in made if not own.issuperset(readers.get(name, ())))
    others = {name for i, node in enumerate(nodes) if i not in own for name in node.output}
    (reads,) = {name for i in own for name in nodes[i].input} & (others | {"pixels"})
    (most,) = (n for n in nodes if n.op_type == "Max" and set(gives) & set(n.input))
    (gate,) = set(most.input) - set(gives)
    return Branch([nodes[i] for i in sorted(own)], reads, gives, gate)


def _list_weights(model: ModelProto, prefixes: tuple[str, ...]) -> set[str]:
    return {t.name for t in model.graph.initializer if t.name.startswith(prefixes)}


def _follow(nodes: Iterable[NodeProto], names: set[str]) -> set[str]:
    """Return the tensors that depend on any of `names`."""
    found = set(names)
    for node in nodes:
        if found.intersection(node.input):
            found.update(node.output)
    return found


def _find_readers(nodes: Sequence[NodeProto]) -> dict[str, list[int]]:
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        for name in node.input:
            readers.setdefault(name, []).append(i)
    return readers


def _read_shapes(model: ModelProto, names: Sequence[str]) -> dict[str, list[int]]:
    """Return the sizes of tensors without the batch axis."""
    known = onnx.shape_inference.infer_shapes(model).graph.value_info
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in known}
    return {name: shapes[name] for name in names}


def _constants(shapes: dict[str, list[int]]) -> list[TensorProto]:
    values = {"skip.one": np.float32(1), "skip.none": np.int64(0), "skip.flat": np.array([-1])}
    values |= {f"skip.sizes.{i}": np.array(s, np.int64) for i, s in enumerate(shapes.values())}
    return [numpy_helper.from_array(np.asarray(v), name) for name, v in values.items()]


def _choose(branch: Branch) -> list[NodeProto]:
    """Return the nodes that list the pictures below 1 and tell whether there are any."""
    return [
        helper.make_node("Less", [branch.gate, "skip.one"], ["skip.below"]),
        helper.make_node("NonZero", ["skip.below"], ["skip.found"]),
        helper.make_node("Reshape", ["skip.found", "skip.flat"], ["skip.places"]),
        helper.make_node("Size", ["skip.places"], ["skip.count"]),
        helper.make_node("Greater", ["skip.count", "skip.none"], ["skip.any"]),
        helper.make_node("Shape", [branch.gate], ["skip.batch"]),
    ]


def _branch_off(branch: Branch, shapes: dict[str, list[int]]) -> NodeProto:
    """Return the node that runs the branch on the listed pictures, or returns zeros."""
    few = f"skip.{branch.reads}"
    some: list[NodeProto] = [
        helper.make_node("Gather", [branch.reads, "skip.places"], [few], axis=0)
    ]
    for node in branch.nodes:
        inner = NodeProto()
        inner.CopyFrom(node)
        inner.input[:] = [few if name == branch.reads else name for name in node.input]
        some.append(inner)
    axes = numpy_helper.from_array(np.array([1]), "skip.axes")
    some.append(helper.make_node("Unsqueeze", ["skip.places", "skip.axes"], ["skip.rows"]))
    none: list[NodeProto] = []
    for i, name in enumerate(branch.gives):
        some += _make_zeros(i, f"skip.zeros.{i}")
        told = [f"skip.zeros.{i}", "skip.rows", name]
        some.append(helper.make_node("ScatterND", told, [f"skip.some.{i}"]))
        none += _make_zeros(i, f"skip.none.{i}")
    return helper.make_node(
        "If",
        ["skip.any"],
        list(branch.gives),
        name="photographs",
        then_branch=helper.make_graph(some, "some", [], _tell("some", shapes), [axes]),
        else_branch=helper.make_graph(none, "none", [], _tell("none", shapes)),
    )


def _make_zeros(number: int, name: str) -> list[NodeProto]:
    """Return the nodes that make a tensor of zeros for the whole batch."""
    sizes = f"{name}.sizes"
    return [
        helper.make_node("Concat", ["skip.batch", f"skip.sizes.{number}"], [sizes], axis=0),
        helper.make_node("ConstantOfShape", [sizes], [name]),
    ]


def _tell(branch: str, shapes: dict[str, list[int]]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(f"skip.{branch}.{i}", TensorProto.FLOAT, ["batch", *sizes])
        for i, sizes in enumerate(shapes.values())
    ]
