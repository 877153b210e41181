"""What a session needs to run the similarity node: its names, and its compiled library if any.

The node carries its own definition (a function body in the file), so stock ONNX Runtime runs it
with nothing registered. A registered library always wins over the body, even where it offers no
kernel for the session's device and the run then fails; so it is registered only for a session that
was seen to run on CUDA. Imports neither onnx nor torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

Kind = Literal["softmax", "sigmoid"]

DOMAIN: Final = "ai.twinlens"
VERSION: Final = 1
OP_TYPES: Final[dict[Kind, str]] = {
    "softmax": "NormalizedSimilaritySoftmax",
    "sigmoid": "NormalizedSimilaritySigmoid",
}
LIBRARY_NAME: Final = "libtwinlens_similarity.so"
CUDA_PROVIDER: Final = "CUDAExecutionProvider"


def find_library(folder: Path | None = None) -> Path | None:
    """Return the compiled library, beside this file unless `folder` says; None if unbuilt."""
    path = (folder or Path(__file__).parent) / LIBRARY_NAME
    return path if path.is_file() else None


def register_library(options: Any, provider: str, *, folder: Path | None = None) -> Path | None:
    """Register the compiled kernels with the `SessionOptions`; return the library, or None.

    `provider` is the one that a session of this process really got (`session.get_providers()[0]`):
    ONNX Runtime lists CUDA on machines that have no GPU. On any other provider nothing is
    registered, since there the inlined body is at least as fast.
    """
    library = find_library(folder)
    if library is None or provider != CUDA_PROVIDER:
        return None
    options.register_custom_ops_library(str(library))
    return library
