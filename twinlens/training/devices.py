"""Which device a run uses; the only place that asks whether there is a GPU, and sends to it.

What must stay true: an accelerator is fed without being waited for. What is sent to it lies in
pinned memory, and the copy is queued like any other work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twinlens.errors import InputError


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r}: {error}", field="device") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("device is cuda, but torch sees no GPU; set device=cpu", field="device")
    return device


def is_accelerator(device: torch.device) -> bool:
    """Tell whether work is queued on the device while the CPU goes on."""
    return device.type != "cpu"


def pin(rows: Tensor, device: torch.device) -> Tensor:
    """Return rows where a copy to the device need not wait: pinned, if that is a GPU."""
    return rows.pin_memory() if device.type == "cuda" and not rows.is_cuda else rows


def send(rows: Tensor, device: torch.device) -> Tensor:
    """Return the rows on the device; the copy is queued, not waited for."""
    return rows.to(device, non_blocking=True)
