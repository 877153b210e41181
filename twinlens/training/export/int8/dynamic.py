"""int8 for towers of matrix products: weights per channel, activations quantised at run time.

ONNX Runtime's dynamic quantiser loops over the rows of every weight, which dominates its time; here
one vectorised pass computes the same numbers. What must stay true: the graph equals, byte for byte,
the output of `quantize_dynamic`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode, load_model_with_shape_infer

PRODUCTS: Final = ("MatMul", "Gemm")
_STEPS: Final = 254  # from -127 to 127
_SUFFIX: Final = "_quantized"


def write_dynamic(source: Path, path: Path) -> bool:
    """Write the graph at `source` with quantised products to `path`; False if it has none.

    Weights go to `path` plus `.data`, as ONNX Runtime names them.
    """
    quantizer = _Quantizer(
        load_model_with_shape_infer(source),
        True,  # per channel
        False,  # no reduced range
        QuantizationMode.IntegerOps,
        False,  # not static
        QuantType.QInt8,
        QuantType.QUInt8,
        None,
        [],
        [],
        list(PRODUCTS),
        {"MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    nodes = quantizer.model.model.graph.node
    if not any(node.op_type in ("MatMulInteger", "DynamicQuantizeMatMul") for node in nodes):
        return False
    quantizer.model.save_model_to_file(path, True)
    return True


def quantise_channels(
    weights: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 weights with one scale for each index of `axis`; zero stays zero."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    widest = np.abs(weights).max(axis=others)
    scales = 2 * widest.astype(np.float64) / _STEPS
    scales[scales < np.finfo(np.float32).tiny] = 1.0
    stored = scales.astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    return np.round(weights / stored.reshape(shape)).astype(np.int8), stored


class _Quantizer(ONNXQuantizer):  # type: ignore[misc]
    """ONNX Runtime's quantiser, with all channels of a weight at once."""

    def quantize_weight_per_channel_impl(
        self,
        weight_name: str,
        weight_qType: int,  # noqa: N803
        channel_axis: int,
        reduce_range: bool = True,
        keep_float_weight: bool = False,
    ) -> tuple[str, str, str]:
        """Add the weight's int8 values, zero points and scales; return their names."""
        (weight,) = (w for w in self.model.initializer() if w.name == weight_name)
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or weight_qType != onnx.TensorProto.INT8:
            names = super().quantize_weight_per_channel_impl(
                weight_name, weight_qType, channel_axis, reduce_range, keep_float_weight
            )
            return cast("tuple[str, str, str]", names)
        axis = channel_axis % values.ndim
        found, scales = quantise_channels(values, axis)
        quantised, zero, scale = (
            f"{weight_name}{end}" for end in (_SUFFIX, "_zero_point", "_scale")
        )
        make: Any = onnx.helper.make_tensor
        kinds = (
            (scale, onnx.TensorProto.FLOAT, scales),
            (zero, weight_qType, np.zeros(len(scales), np.int8)),
        )
        added = [make(name, kind, scales.shape, row.tolist()) for name, kind, row in kinds]
        self.model.initializer_extend([*added, numpy_helper.from_array(found, quantised)])
        return quantised, zero, scale
