"""What a session needs to run the similarity node: its names, and its compiled kernels if any.

The node includes its own definition (a function body in the file), so stock ONNX Runtime runs it
without registration. A registered library takes precedence over the body, so it is registered only
if the session will run on CUDA. What must stay true: this imports neither onnx nor torch.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

Kind = Literal["softmax", "sigmoid"]

DOMAIN: Final = "ai.twinlens"
VERSION: Final = 1
OP_TYPES: Final[dict[Kind, str]] = {
    "softmax": "NormalizedSimilaritySoftmax",
    "sigmoid": "NormalizedSimilaritySigmoid",
}
TOP_K: Final = "NormalizedSimilarityTopK"
LIBRARY_NAME: Final = "libtwinlens_similarity.so"
_CUDA_PROVIDER: Final = "CUDAExecutionProvider"
_CUDA_DRIVER: Final = "libcuda.so.1"


def find_library(folder: Path | None = None) -> Path | None:
    """Return the compiled library in `folder`, by default beside this file; None if unbuilt."""
    path = (folder or Path(__file__).parent) / LIBRARY_NAME
    return path if path.is_file() else None


def register_kernels(
    options: Any, providers: Sequence[str], *, folder: Path | None = None
) -> Path | None:
    """Register the compiled kernels with the `SessionOptions`; return the library, or None.

    `providers` are those that the session will request. ONNX Runtime lists CUDA on machines without
    a GPU and then silently falls back, so the driver itself is asked; on a CPU the inlined body is
    faster.
    """
    library = find_library(folder)
    if library is None or _CUDA_PROVIDER not in providers or not has_cuda_device():
        return None
    options.register_custom_ops_library(str(library))
    return library


@functools.cache
def has_cuda_device() -> bool:
    """Return whether the CUDA driver initialises and finds a device."""
    try:
        driver = ctypes.CDLL(_CUDA_DRIVER)
    except OSError:
        return False
    count = ctypes.c_int(0)
    succeeded = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return succeeded and count.value > 0
