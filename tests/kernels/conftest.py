"""Kernels run on the GPU where there is one, else in Triton's interpreter (see the root's)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch

# Triton exists for Linux alone; elsewhere its tests are not even collected.
if importlib.util.find_spec("triton") is None:
    collect_ignore = [
        "gpu/test_diagonal.py",
        "gpu/test_engine.py",
        "gpu/test_pieces.py",
        "gpu/test_prefixes.py",
        "onnx/test_ahead_of_time.py",
        "test_similarity.py",
        "test_gpu_benchmark.py",
    ]


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fill memory that nobody has written yet with NaN, so that reading it cannot go unseen."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
