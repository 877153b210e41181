"""The similarity nodes' definitions as ONNX functions; every runtime that knows none inlines these.

    NormalizedSimilaritySoftmax(X, Y, scale)       = softmax over j of scale * cos(X_i, Y_j)
    NormalizedSimilaritySigmoid(X, Y, scale, bias) = sigmoid(scale * cos(X_i, Y_j) + bias)

X is (n, d), Y (m, d), scale and bias are scalars, the result (n, m). Rows are normalised inside; a
row of zeros has cosine 0 to everything and never gives NaN. A change of meaning here is a new
`VERSION`: files with the old body stay valid.
"""

from __future__ import annotations

from typing import Final

import onnx
import onnx.parser

from twinlens.kernels.onnx.register import DOMAIN, OP_TYPES, VERSION, Kind

OPSET: Final = 18

# The scale is folded into X, which has far fewer rows than Y or the result.
_COSINES = """
  last = Constant <value_ints = [1]> ()
  least = Constant <value = float {1e-12}> ()
  norm_x = ReduceL2 <keepdims = 1> (X, last)
  norm_y = ReduceL2 <keepdims = 1> (Y, last)
  safe_x = Max (norm_x, least)
  safe_y = Max (norm_y, least)
  unit_x = Div (X, safe_x)
  unit_y = Div (Y, safe_y)
  scaled = Mul (unit_x, scale)
  columns = Transpose <perm = [1, 0]> (unit_y)
  logits = MatMul (scaled, columns)
"""
_INPUTS: Final[dict[Kind, str]] = {"softmax": "X, Y, scale", "sigmoid": "X, Y, scale, bias"}
_ENDINGS: Final[dict[Kind, str]] = {
    "softmax": "  P = Softmax <axis = -1> (logits)",
    "sigmoid": "  shifted = Add (logits, bias)\n  P = Sigmoid (shifted)",
}


def similarity_function(kind: Kind) -> onnx.FunctionProto:
    """Return the function body of the node `kind`."""
    return onnx.parser.parse_function(
        f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n'
        f"{OP_TYPES[kind]} ({_INPUTS[kind]}) => (P) {{{_COSINES}{_ENDINGS[kind]}\n}}"
    )


def add_function(model: onnx.ModelProto, kind: Kind) -> None:
    """Give `model` the body of the node `kind` and the opset of its domain, once."""
    function = similarity_function(kind)
    for opset in model.opset_import:
        if opset.domain == "":
            function.opset_import[0].version = opset.version
    if function.name not in {known.name for known in model.functions}:
        model.functions.append(function)
    if DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
