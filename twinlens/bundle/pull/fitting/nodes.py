"""Adds nodes to a graph, each under a unique name, in the form of the graph's opset.

What must stay true: an operator means the same in every opset from 11 on, or both of its forms
(axes as an attribute, axes as an input) are written here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

PREFIX = "twinlens_"
_AXES_ARE_INPUTS = {"Squeeze": 13, "Unsqueeze": 13, "ReduceSum": 13}
_AXES_ARE_INPUTS_LATER = 18  # for the other reductions


class Nodes:
    """New nodes, with the constants that they read."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def take(self) -> list[onnx.NodeProto]:
        """Return the nodes made so far and start anew; names stay unique, constants are kept."""
        made, self.nodes = self.nodes, []
        return made

    def constant(self, value: NDArray[Any]) -> str:
        """Return the name of a new constant."""
        name = self._name("constant")
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node with one output; return the output's name."""
        output = output or self._name(kind.lower())
        self.nodes.append(
            helper.make_node(kind, list(inputs), [output], name=self._name("node"), **attributes)
        )
        return output

    def cast(self, value: str, element_type: int, output: str = "") -> str:
        """Append a conversion to another element type."""
        return self.add("Cast", value, output=output, to=element_type)

    def over_axes(self, kind: str, value: str, *axes: int, output: str = "", **more: Any) -> str:
        """Append a squeeze, unsqueeze or reduction over these axes."""
        if self.opset >= _AXES_ARE_INPUTS.get(kind, _AXES_ARE_INPUTS_LATER):
            places = self.constant(np.array(axes, np.int64))
            return self.add(kind, value, places, output=output, **more)
        return self.add(kind, value, output=output, axes=list(axes), **more)

    def normalise(self, rows: str, output: str) -> str:
        """Append the division of each row by its length; a row of zeros stays zero."""
        length = self.over_axes("ReduceL2", rows, -1, keepdims=1)
        least = self.constant(np.array(1e-12, np.float32))
        return self.add("Div", rows, self.add("Max", length, least), output=output)

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{PREFIX}{what}_{self._count}"


def read_opset(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that a model uses."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
