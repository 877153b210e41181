"""How many floating-point operations a tower needs for a batch, counted from its graph.

Products with weights and convolutions are counted, two operations per multiply-add. The rest,
including products inside attention, is small (one in a hundred for a ViT-B-32).
"""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from onnx import shape_inference
from report import Report

from twinlens import open_bundle

RATIOS = (3.0, 6.0)  # the targeted ratios to infinity, for images and for texts


def compare_to_peak(
    report: Report,
    rates: dict[tuple[str, str], float],
    bundle: Path,
    whats: tuple[str, str, str],
    text: str,
) -> None:
    """Add the arithmetic rates behind images encoded only, images and texts.

    If a ratio to a peer needs more of it than a large matrix product reaches, no software can reach
    it.
    """
    encoded, images, texts = whats
    length = len(open_bundle(bundle).tokenize([text])[0])
    image = count_gflop(bundle / "image.onnx", batch=8) / 8
    sizes = {
        encoded: image,
        images: image,
        texts: count_gflop(bundle / "text.onnx", batch=32, length=length) / 32,
    }
    for (contender, what), rate in rates.items():
        if what in sizes and contender in ("bare loop", "twinlens"):
            named = f"{what}: GFLOP per CPU s"
            report.row(what=named, contender=contender, value=rate * sizes[what])
    for what, times in zip((images, texts), RATIOS, strict=True):
        if ("infinity", what) in rates:
            named = f"{what}: GFLOP per CPU s that {times:g}x infinity takes"
            report.row(what=named, value=times * rates["infinity", what] * sizes[what])


def count_gflop(path: Path, *, batch: int, length: int = 1) -> float:
    """Return GFLOP of one run; axes without a number are `batch` (first) and `length` (others)."""
    model = onnx.load(str(path), load_external_data=False)
    for given in model.graph.input:
        for axis, dim in enumerate(given.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_value = batch if axis == 0 else length
    del model.graph.value_info[:]
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {v.name: _read_shape(v) for v in (*inferred.input, *inferred.value_info)}
    shapes |= {v.name: _read_shape(v) for v in inferred.output}
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    return sum(_count(node, shapes) for node in inferred.node) / 1e9


def _count(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> float:
    """Return the operations of one node, 0 for kinds that are not counted."""
    if node.op_type not in ("MatMul", "Gemm", "Conv"):
        return 0.0
    made, left, right = (shapes[name] for name in (node.output[0], *node.input[:2]))
    if node.op_type == "Conv":
        return 2.0 * math.prod(made) * math.prod(right[1:])
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return 2.0 * math.prod(made) * left[-2 if transposed else -1]


def _read_shape(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
