"""fp16 graphs: converted from the fp32 graph where that is equivalent, else traced again.

Tracing takes seconds, conversion a fraction of one. What must stay true: a graph is converted only
if the tower in half precision computes in half precision throughout. A layer that casts to float32
and back leaves no trace in the fp32 graph, so such a tower is traced again.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from twinlens.training.export.graphs import trace
from twinlens.training.export.towers import ExportTower
from twinlens.training.export.wrappers import PixelFace

_SHIFT: Final = "shift"  # the constant of the last step of pixel normalisation
_TAIL: Final = ("ReduceL2", "Clip", "Div")


def make_half(tower: ExportTower, source: Path) -> ir.Model:
    """Return the half precision graph of `tower`, whose fp32 graph is at `source`."""
    if stays_half(tower):
        model = convert_graph(source, pixels=isinstance(tower.face, PixelFace))
        if model is not None:
            return model
    return trace_half(tower)


def trace_half(tower: ExportTower) -> ir.Model:
    """Trace the tower in half precision; its inputs and outputs stay as they are."""
    face = _halve(copy.deepcopy(tower.face))
    return trace(face, tower.example, (tower.input_name, "embedding"), tower.dims)


def stays_half(tower: ExportTower) -> bool:
    """Return whether the tower in half precision casts to float32 only to normalise its rows.

    It runs on tensors without content, so nothing is computed.
    """
    tensors = [*tower.face.parameters(), *tower.face.buffers()]
    empty = {id(t): _empty_like(t) for t in tensors}
    face = _halve(copy.deepcopy(tower.face, empty))
    counter = _ExitCounter()
    try:
        with torch.no_grad(), counter:
            face(tower.example.to("meta"))
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return False
    return counter.exits == 1


def convert_graph(source: Path, *, pixels: bool) -> ir.Model | None:
    """Return the graph in half precision between its two ends; None if one is not found."""
    model = ir.load(source)
    tail = _find_tail(model)
    head = _find_head(model) if pixels else set()
    if tail is None or head is None:
        return None
    faces = head | set(tail)
    inner = [node for node in model.graph if node not in faces]
    if any(node.op_type == "Cast" and _casts_to_float(node) for node in inner):
        return None
    if not _halve_weights(model, faces):
        return None
    for value in (value for node in inner for value in node.outputs):
        if value.dtype == ir.DataType.FLOAT:
            value.dtype = ir.DataType.FLOAT16
    return model if _cast_faces(model, head, tail) else None


def _halve(face: nn.Module) -> nn.Module:
    face.tower = cast("nn.Module", face.tower).half()
    if isinstance(face, PixelFace):
        face.dtype = torch.float16
    return face.eval()


def _empty_like(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


class _ExitCounter(TorchFunctionMode):
    """Counts the operations that take half precision and return float32."""

    def __init__(self) -> None:
        super().__init__()
        self.exits = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count it."""
        found = func(*args, **(kwargs or {}))
        taken = {t.dtype for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        # Secondary results (such as a norm's statistics) are ignored.
        given = [t.dtype for t in tree_leaves(found) if isinstance(t, torch.Tensor)][:1]
        self.exits += torch.float16 in taken and torch.float32 in given
        return found


def _find_tail(model: ir.Model) -> list[ir.Node] | None:
    """Return the nodes that normalise rows: ReduceL2, Clip, Div."""
    divide = model.graph.outputs[0].producer()
    length = divide.inputs[1] if divide is not None and len(divide.inputs) == 2 else None
    clip = length.producer() if length is not None else None
    plain = clip.inputs[0] if clip is not None else None
    reduce = plain.producer() if plain is not None else None
    if divide is None or clip is None or reduce is None:
        return None
    tail = [reduce, clip, divide]
    same = tuple(node.op_type for node in tail) == _TAIL and reduce.inputs[0] is divide.inputs[0]
    return tail if same else None


def _find_head(model: ir.Model) -> set[ir.Node] | None:
    """Return the nodes that normalise pixels, up to the addition of the shift."""
    shift = model.graph.initializers.get(_SHIFT)
    users = list(shift.consumers()) if shift is not None else []
    if len(users) != 1:
        return None
    head: set[ir.Node] = set()
    waiting = [users[0]]
    while waiting:
        node = waiting.pop()
        head.add(node)
        waiting += [p for v in node.inputs if v is not None and (p := v.producer()) is not None]
    return head


def _casts_to_float(node: ir.Node) -> bool:
    return node.attributes["to"].as_int() == ir.DataType.FLOAT


def _halve_weights(model: ir.Model, faces: set[ir.Node]) -> bool:
    """Convert the weights between both ends; False if an end shares one of them."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT:
            continue
        users = set(value.consumers())
        if users <= faces:
            continue
        if users & faces:
            return False
        value.const_value = ir.tensor(tensor.numpy().astype(np.float16), name=value.name)
    return True


def _cast_faces(model: ir.Model, head: set[ir.Node], tail: list[ir.Node]) -> bool:
    """Add the casts between both ends and the part between them."""
    ends = [node for node in head if any(v is not None and v.name == _SHIFT for v in node.inputs)]
    for number, end in enumerate(ends, 1):
        _cast(model, end.outputs[0], ir.DataType.FLOAT16, number, after=end)
    rows = tail[0].inputs[0]
    maker = rows.producer() if rows is not None else None
    if rows is None or maker is None:
        return False
    _cast(model, rows, ir.DataType.FLOAT, len(ends) + 1, after=None, before=tail[0])
    return True


def _cast(
    model: ir.Model,
    value: ir.Value,
    kind: ir.DataType,
    number: int,
    *,
    after: ir.Node | None,
    before: ir.Node | None = None,
) -> None:
    """Cast `value` for all its users, by a node `after` its producer or `before` its first user."""
    users = list(value.uses())
    node = ir.node("Cast", [value], {"to": int(kind)}, name=f"node__to_copy_{number}")
    node.outputs[0].name, node.outputs[0].dtype = f"_to_copy_{number}", kind
    node.outputs[0].shape = value.shape
    for user, index in users:
        user.replace_input_with(index, node.outputs[0])
    if after is not None:
        model.graph.insert_after(after, node)
    elif before is not None:
        model.graph.insert_before(before, node)
