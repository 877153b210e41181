"""Reads single tensors from a safetensors file: plain bytes under a JSON header, no code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlens.errors import BundleError

_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
_LARGEST_HEADER = 1 << 26


def read_tensors(path: Path, names: list[str]) -> dict[str, NDArray[np.float32]]:
    """Return those of the named tensors that the file holds, as float32."""
    found: dict[str, NDArray[np.float32]] = {}
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LARGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
            for name in names:
                if name not in header:
                    continue
                start, stop = header[name]["data_offsets"]
                file.seek(8 + length + start)
                found[name] = _convert(file.read(stop - start), header[name])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path.name} is not a safetensors file: {error}") from None
    return found


def _convert(data: bytes, entry: dict[str, object]) -> NDArray[np.float32]:
    kind = str(entry["dtype"])
    values = np.frombuffer(data, _TYPES[kind])
    if kind == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    shape: list[int] = entry["shape"]  # type: ignore[assignment]
    return values.astype(np.float32).reshape(shape)
