"""Kernels run on the GPU where there is one, and in Triton's interpreter where there is none.

The interpreter is chosen when a kernel is defined, so the variable must stand before any test
imports one; nothing but Triton reads it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fill memory that nobody has written yet with NaN, so that reading it cannot go unseen."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
