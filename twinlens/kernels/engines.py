"""Which engine handles which embeddings, by name, type and device, and what it keeps of a forward.

What must stay true: the Triton engine is imported by the first call that runs on a GPU or requests
it.
"""

from __future__ import annotations

import importlib.util
from typing import Any, get_args

import torch
from torch import Tensor

from twinlens.errors import InputError, MissingDependencyError
from twinlens.kernels import contrastive
from twinlens.kernels.chunked import ChunkedEngine
from twinlens.kernels.contrastive import Engine, Memory
from twinlens.kernels.pairs import Pairs

ENGINES = ("auto", "chunked", "triton")


def choose_engine(name: str, x: Tensor) -> Engine:
    """Return the engine of that name; "auto" is Triton for whatever it supports on a GPU."""
    if name not in ENGINES:
        raise InputError(f"engine is {name!r}; choose from {', '.join(ENGINES)}", field="engine")
    if not names_triton(name, x):
        return ChunkedEngine()
    if importlib.util.find_spec("triton") is None:
        raise MissingDependencyError(
            "engine 'triton' needs triton: pip install 'triton>=3.6,<3.10'"
        )
    from twinlens.kernels.gpu.engine import TritonEngine

    return TritonEngine()


def takes_few_launches(engine: str, x: Tensor, pairs: Pairs) -> bool:
    """Tell whether the Triton engine has a whole step in few launches for these."""
    if not names_triton(engine, x) or importlib.util.find_spec("triton") is None:
        return False
    from twinlens.kernels.gpu import diagonal

    return diagonal.suits(x, pairs)


def check_memory(memory: str) -> None:
    """Raise unless the trade-off between memory and time has a known name."""
    if memory not in get_args(Memory):
        known = ", ".join(get_args(Memory))
        raise InputError(f"memory is {memory!r}; choose from {known}", field="memory")


def suits_triton(x: Tensor) -> bool:
    """Tell whether the Triton kernels support such embeddings here."""
    return x.is_cuda and x.dtype != torch.float64 and importlib.util.find_spec("triton") is not None


def names_triton(name: str, x: Tensor) -> bool:
    """Tell whether an engine's name selects the Triton kernels for such embeddings."""
    return name == "triton" or (name == "auto" and suits_triton(x))


def keeps_terms(engine: str, x: Tensor, y: Tensor, pairs: Pairs, memory: Any) -> bool:
    """Tell whether a softmax's forward keeps its terms for the backward."""
    size = make_kept(engine, x, 0, 0).element_size()
    if memory == "balanced" and names_triton(engine, x) and x.element_size() == 2:
        few = len(x) * len(y) * size <= contrastive.SPARED_BYTES
        return few and contrastive.keeps_terms("stored", len(x), len(y), size, pairs)
    return contrastive.keeps_terms(memory, len(x), len(y), size, pairs)


def make_kept(engine: str, x: Tensor, n: int, m: int) -> Tensor:
    """Return an empty (n, m) of the type in which the engine keeps terms."""
    halves = names_triton(engine, x) and x.element_size() == 2
    return x.new_empty(n, m, dtype=torch.bfloat16 if halves else wide_type(x))


def saved_type(x: Tensor) -> torch.dtype:
    """Return the type in which a gradient is stored until the backward multiplies it.

    Not float16: losses are scaled up because such gradients are too small for it.
    """
    return torch.float32 if x.dtype == torch.float16 else x.dtype


def wide_type(x: Tensor) -> torch.dtype:
    """Return the type of values: float32 or better."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
