"""A CPU that counts as an accelerator, and a mode that counts what would wait for one."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from twinlens.training import devices

aten = torch.ops.aten
# What reads a number of the device, or needs one to know a shape.
WAITS = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.unique_dim,
    aten._unique2,
    aten.equal,
    aten.is_nonzero,
    aten._linalg_eigh,
    aten._linalg_svd,
    aten.linalg_cholesky_ex,
}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


def count_as_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every module take the way of an accelerator."""
    plain = devices.is_accelerator
    for module in list(sys.modules.values()):
        if getattr(module, "is_accelerator", None) is plain:
            monkeypatch.setattr(module, "is_accelerator", lambda device: True)


class WaitCounter(TorchDispatchMode):
    """Counts the operations that would wait for an accelerator, in this thread."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count the operation, then run it."""
        packet = func.overloadpacket
        masks = packet in INDEXED and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if packet in WAITS or masks:
            self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))
