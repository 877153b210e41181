"""Which device a run uses; the only module that looks for a GPU and copies to it.

What must stay true: the CPU never waits for an accelerator when it sends data: rows lie in pinned
memory and the copy is queued.
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
        raise InputError("device is cuda, but torch finds no GPU; set device=cpu", field="device")
    return device


def is_accelerator(device: torch.device) -> bool:
    """Tell whether the device queues work while the CPU goes on."""
    return device.type != "cpu"


def pin(rows: Tensor, device: torch.device) -> Tensor:
    """Return rows from which a copy to the device need not wait: pinned memory for a GPU."""
    return rows.pin_memory() if device.type == "cuda" and not rows.is_cuda else rows


def send(rows: Tensor, device: torch.device) -> Tensor:
    """Return the rows on the device; the copy is queued."""
    return rows.to(device, non_blocking=True)
