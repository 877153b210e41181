"""The inputs of a foreign graph by their meaning: pixels, ids, mask, token types, positions.

What must stay true: an unknown input is refused by name, never fed a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import TensorProto

from twinlens.errors import BundleError

Role = Literal["pixels", "ids", "mask", "token_types", "positions"]

_INTEGERS = (TensorProto.INT32, TensorProto.INT64)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class GraphInput:
    """One input: its meaning, element type and dimensions (0 for free ones)."""

    name: str
    role: Role
    element_type: int
    shape: tuple[int, ...]

    @property
    def batch(self) -> int:
        """The fixed size of the first axis, or 0."""
        return self.shape[0] if self.shape else 0


def read_inputs(graph: onnx.GraphProto, file: str) -> list[GraphInput]:
    """Return the graph's inputs with their meanings; constants are not inputs."""
    constants = {item.name for item in graph.initializer}
    return [_read(value, file) for value in graph.input if value.name not in constants]


def find_input(inputs: list[GraphInput], role: Role) -> GraphInput | None:
    """Return the input with this meaning, if there is one."""
    return next((item for item in inputs if item.role == role), None)


def _read(value: onnx.ValueInfoProto, file: str) -> GraphInput:
    kind = value.type.tensor_type
    shape = tuple(int(dim.dim_value) for dim in kind.shape.dim)
    role = _find_role(value.name.lower(), kind.elem_type, len(shape))
    if role is None:
        raise BundleError(
            f"{file}: the graph has an input {value.name!r}, which is neither pixels, token ids, "
            "a mask, token types nor positions; such a graph cannot be pulled"
        )
    return GraphInput(value.name, role, kind.elem_type, shape)


def _find_role(name: str, element_type: int, rank: int) -> Role | None:
    if "past" in name or "cache" in name:  # the cache of a text generator
        return None
    if rank == 4 and element_type in _FLOATS:
        return "pixels"
    if rank != 2 or "pixel" in name:
        return None
    if "mask" in name:
        return "mask"
    if element_type not in _INTEGERS:
        return None
    if "type" in name or "segment" in name:
        return "token_types"
    if "position" in name:
        return "positions"
    return "ids" if name in ("text", "texts", "input", "tokens") or "id" in name else None
