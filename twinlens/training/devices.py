"""Which device a run uses; the only place that asks whether there is a GPU."""

from __future__ import annotations

import torch

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
