"""The machine's own matrix peak, by which rates can be compared between machines.

A rate in images per second depends as much on the processor as on the code. The share of the peak
is portable: operations per second of the contender, over those of the best large matrix product of
any library here, in the same run and on as many threads. Each peak is timed alternately with the
contenders, since the machine's speed drifts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from torch.utils.flop_counter import FlopCounterMode

SIDE = 2048  # of square matrices: large enough that memory does not matter
OPERATIONS = 2 * SIDE**3
PRECISIONS = ("fp32", "bf16", "int8")
PREFIX = "peak"

Calls = dict[str, Callable[[], object]]


def peak_calls(precisions: tuple[str, ...] = PRECISIONS) -> Calls:
    """Return one product for each library, named `peak: PRECISION LIBRARY`."""
    rng = np.random.default_rng(0)
    floats = rng.standard_normal((2, SIDE, SIDE)).astype(np.float32)
    numbers = torch.from_numpy(rng.integers(-127, 128, (2, SIDE, SIDE), dtype=np.int8))
    tensors = torch.from_numpy(floats)
    half = tensors.to(torch.bfloat16)
    every: Calls = {
        f"{PREFIX}: fp32 numpy": partial(np.matmul, floats[0], floats[1]),
        f"{PREFIX}: fp32 torch": partial(torch.mm, tensors[0], tensors[1]),
        f"{PREFIX}: bf16 torch": partial(torch.mm, half[0], half[1]),
        f"{PREFIX}: int8 torch": partial(torch._int_mm, numbers[0], numbers[1]),
        f"{PREFIX}: int8 onnxruntime": _integer_product(numbers.numpy()),
    }
    return {name: call for name, call in every.items() if name.split()[1] in precisions}


def find_peaks(times: Mapping[str, float]) -> dict[str, float]:
    """Return the operations per second of the fastest library for each timed precision."""
    peaks: dict[str, float] = {}
    for name, seconds in times.items():
        if name.startswith(f"{PREFIX}:"):
            precision = name.split()[1]
            peaks[precision] = max(peaks.get(precision, 0.0), OPERATIONS / seconds)
    return peaks


def count_operations(call: Callable[[], object]) -> int:
    """Return the operations in the matrix products and convolutions of a call to torch."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call()
    return int(counter.get_total_flops())


def _integer_product(values: Any) -> Callable[[], object]:
    """Return a product of unsigned by signed bytes in ONNX Runtime on one thread."""
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    inputs = [helper.make_tensor_value_info("a", TensorProto.UINT8, [SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, [SIDE, SIDE])]
    fixed = helper.make_tensor("b", TensorProto.INT8, [SIDE, SIDE], values[1].tobytes(), raw=True)
    graph = helper.make_graph([node], "product", inputs, outputs, [fixed])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    left = (values[0].astype(np.int16) + 128).astype(np.uint8)
    return partial(session.run, None, {"a": left})
