"""int8 for convolutional towers: activation ranges are measured on pictures and stored.

Integer convolutions need the range of their inputs beforehand. So pictures run through the fp32
graph once (`measure_ranges`), and the ranges become the scales of the graph's QuantizeLinear and
DequantizeLinear nodes. Weights are quantised per channel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

# Operators computed in int8: convolutions, and what may stand between two of them.
OPERATORS: Final = (
    "Conv", "Relu", "Clip", "Add", "MaxPool", "AveragePool", "GlobalAveragePool",
)  # fmt: skip
_BATCH: Final = 4  # pictures per run: all activations are outputs here


def has_mostly_convolutions(path: Path) -> bool:
    """Return whether convolutions hold most of the weights of the graph at `path`."""
    graph = onnx.load(str(path), load_external_data=False).graph
    sizes = {weight.name: int(np.prod(weight.dims)) for weight in graph.initializer}
    counted = {"Conv": 0, "MatMul": 0, "Gemm": 0}
    for node in graph.node:
        if node.op_type in counted:
            counted[node.op_type] += sum(sizes.get(name, 0) for name in node.input)
    return counted["Conv"] > counted["MatMul"] + counted["Gemm"]


def list_first_nodes(path: Path, convolutions: int) -> list[str]:
    """Return the nodes that quantisation would reach, up to the end of the first convolutions.

    Nodes that follow a convolution are included: quantising an activation alone would quantise its
    unbounded input.
    """
    names: list[str] = []
    seen = 0
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        seen += node.op_type == "Conv"
        if seen > convolutions:
            break
        if node.op_type in OPERATORS:
            names.append(node.name)
    return names


def measure_ranges(path: Path, name: str, pixels: NDArray[Any]) -> TensorsData:
    """Return the smallest and largest value of every activation over `pixels` (input `name`)."""
    with tempfile.TemporaryDirectory(prefix="twinlens-") as folder:
        calibrator = create_calibrator(
            path,
            list(OPERATORS),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
            use_external_data_format=True,
        )
        calibrator.collect_data(_Reader(name, pixels))
        return calibrator.compute_data()


def write_static(source: Path, path: Path, ranges: TensorsData, plain_convolutions: int) -> None:
    """Write the graph at `source` with int8 convolutions to `path`, the first ones kept in fp32.

    Weights go to `path` plus `.data`, as ONNX Runtime names them.
    """
    quantizer = QDQQuantizer(
        load_model_with_shape_infer(source),
        True,  # per channel
        False,  # no reduced range
        QuantType.QInt8,
        QuantType.QUInt8,
        ranges,
        [],
        list_first_nodes(source, plain_convolutions) if plain_convolutions else [],
        list(OPERATORS),
        {},
    )
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(path, True)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds pixels in small batches."""

    def __init__(self, name: str, pixels: NDArray[Any]) -> None:
        self._feeds: Iterator[dict[str, Any]] = iter(
            [{name: pixels[i : i + _BATCH]} for i in range(0, len(pixels), _BATCH)]
        )

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch, or None after the last."""
        return next(self._feeds, None)
