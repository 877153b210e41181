"""The similarity nodes' definitions as ONNX functions; every runtime that knows none inlines these.

    NormalizedSimilaritySoftmax(X, Y, scale)       = softmax over j of scale * cos(X_i, Y_j)
    NormalizedSimilaritySigmoid(X, Y, scale, bias) = sigmoid(scale * cos(X_i, Y_j) + bias)
    NormalizedSimilarityTopK(X, Y, scale, k)       = the k largest of the softmax, best first, and
                                                     their columns; of equals the lower column first

X is (n, d), Y (m, d), scale and bias are scalars, k is int64 (1,), the results (n, m) or (n, k).
Rows are normalised inside; a row of zeros has cosine 0 to everything and never gives NaN. A change
of meaning here is a new `VERSION`: files with the old body stay valid.
"""

from __future__ import annotations

from typing import Final

import onnx
import onnx.parser

from twinlens.kernels.onnx.register import DOMAIN, OP_TYPES, TOP_K, VERSION, Kind

OPSET: Final = 18

# The scale is folded into X, which has far fewer rows than Y and the result.
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
    return _parse(f"{OP_TYPES[kind]} ({_INPUTS[kind]}) => (P)", _ENDINGS[kind])


def topk_function() -> onnx.FunctionProto:
    """Return the function body of the node that keeps the k best: probabilities and columns."""
    ending = "  all = Softmax <axis = -1> (logits)\n  P, I = TopK (all, k)"
    return _parse(f"{TOP_K} (X, Y, scale, k) => (P, I)", ending)


def add_function(model: onnx.ModelProto, function: onnx.FunctionProto) -> None:
    """Add a node's body to `model` with the opset of its domain, once."""
    for opset in model.opset_import:
        if opset.domain == "":
            function.opset_import[0].version = opset.version
    if function.name not in {known.name for known in model.functions}:
        model.functions.append(function)
    if DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))


def _parse(head: str, ending: str) -> onnx.FunctionProto:
    return onnx.parser.parse_function(
        f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n{head} {{{_COSINES}{ending}\n}}'
    )
