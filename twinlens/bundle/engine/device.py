"""The devices that encoders run on: how users name them, and how they fail.

What must stay true: a requested device that is missing is refused; nothing runs on the CPU instead.
This module computes nothing.
"""

from __future__ import annotations

import re
from typing import Final

from twinlens.errors import DeviceError, InputError

KINDS: Final = ("auto", "cpu", "cuda")
_NUMBERED: Final = re.compile(r"cuda(?::(\d{1,3}))?")
# Messages of ONNX Runtime, cuBLAS, cuDNN and the driver when memory runs out.
_FULL: Final = re.compile(
    r"out of memory|failed to allocate memory|ALLOC_FAILED|bfc_?arena.*alloc|CUDA failure 2:", re.I
)
_LOST: Final = re.compile(
    r"CUDA failure|CUDA error|CUDNN|CUBLAS|illegal memory access|launch failure|"
    r"device.{0,20}(lost|unavailable)|driver error",
    re.I,
)


def list_devices(text: str) -> tuple[str, ...]:
    """Return the devices in `cuda:0,cuda:1`, each once; `cuda` alone means `cuda:0`."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    found = [_read_name(name) for name in names]
    if not found:
        raise InputError(f"device is {text!r}; {_CHOICES}", field="device")
    if len(found) > 1 and any(not name.startswith("cuda") for name in found):
        raise InputError(
            f"device {text!r} mixes devices of different kinds; list GPUs only, as cuda:0,cuda:1",
            field="device",
        )
    if len(set(found)) < len(found):
        raise InputError(f"device {text!r} names a GPU twice", field="device")
    return tuple(found)


def read_number(device: str) -> int:
    """Return the number of a GPU: 1 for `cuda:1`."""
    return int(device.partition(":")[2] or 0)


def explain_failure(error: Exception, device: str) -> DeviceError | None:
    """Return the error of a run that failed because of the device; None for other failures."""
    text = " ".join(str(error).split())
    if _FULL.search(text):
        return DeviceError(
            f"device {device} has no memory left for this batch; lower batching.image_batch or "
            "batching.text_batch, stop what else runs there, or raise --device-memory",
            kind="full",
        )
    if _LOST.search(text):
        return DeviceError(
            f"device {device} failed and cannot be used by this process any more; check "
            "nvidia-smi and the kernel log, then restart",
            kind="lost",
        )
    return None


_CHOICES: Final = "choose auto, cpu, cuda, or cards by number as cuda:0,cuda:1"


def _read_name(name: str) -> str:
    match = _NUMBERED.fullmatch(name)
    if match:
        return f"cuda:{int(match[1] or 0)}"
    if name in KINDS:
        return name
    raise InputError(f"device {name!r} is unknown; {_CHOICES}", field="device")
