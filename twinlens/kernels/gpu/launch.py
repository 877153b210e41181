"""What every launch on a device shares: architecture, tile, constants, alignment."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from twinlens.kernels.contrastive import Problem, Side
from twinlens.kernels.gpu.tile_table import KernelName, Tile, find_tile

RELAUNCHES = os.environ.get("TWINLENS_RELAUNCH") == "1"  # off: not yet run on a GPU
MOST_KEYS = 1024  # different steps to remember
_KEYS: dict[Hashable, int] = {}
_numbers = itertools.count()
_COMPILED: dict[Hashable, Any] = {}


def divide_up(a: int, b: int) -> int:
    """Return a / b rounded up, as triton.cdiv, which is twenty times slower on the host."""
    return -(-a // b)


def power_above(a: int) -> int:
    """Return the least power of two that is at least a."""
    return 1 << (a - 1).bit_length()


@dataclass(frozen=True)
class Launch:
    """The settings of all launches on one device."""

    arch: int  # 80, 90, ...; 0 when interpreted
    processors: int

    @staticmethod
    @functools.cache
    def on(device: torch.device) -> Launch:
        """Return the settings for a device; the CPU means the interpreter."""
        if device.type != "cuda":
            return Launch(0, 2)
        properties = torch.cuda.get_device_properties(device)
        return Launch(properties.major * 10 + properties.minor, properties.multi_processor_count)

    @property
    def is_hopper(self) -> bool:
        """Tell whether matrix products run asynchronously (Hopper)."""
        return self.arch // 10 == 9

    def tile(self, kernel: KernelName, x: Tensor, y: Tensor) -> Tile:
        """Return the table's tile for this device and these embeddings."""
        d, size = x.shape[1], x.element_size()
        return find_tile(kernel, self.arch, size, d, aligned=are_aligned(x, y))

    def options(self, tile: Tile, like: Tensor, *, float32: str = "ieee") -> dict[str, Any]:
        """Return the constants that every kernel takes; `float32` is how such products are made."""
        up = self.arch == 0 and like.dtype != torch.float32
        precision = float32 if like.dtype == torch.float32 else "tf32"
        return {
            **tile.sizes,
            "UP": up,
            "PRECISION": "ieee" if up else precision,
            "num_warps": tile.warps,
            "num_stages": tile.stages,
        }


class Again:
    """Relaunches a kernel whose key was launched before.

    Triton inspects each argument to find the machine code, which takes longer than many a kernel. A
    key holds everything that the code depends on: types, integers, alignment to 16 bytes, and all
    constants, which are the last parameters of a kernel. Key None: inspect again.
    """

    def __init__(self, kernel: Any, key: Hashable | None) -> None:
        self.kernel, self.key = kernel, None if key is None else (id(kernel), key)

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        """Return the launch."""
        made = None if self.key is None else _COMPILED.get(self.key)
        if made is None:
            return functools.partial(self._compile, grid)
        return functools.partial(self._launch, made[(*grid, 1, 1)[:3]])

    @staticmethod
    def forget() -> None:
        """Forget all keys."""
        _COMPILED.clear()

    def _compile(self, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
        made = self.kernel[grid](*arguments, **constants)
        if self.key is not None and made is not None:  # the interpreter compiles nothing
            _COMPILED[self.key] = made

    def _launch(self, launch: Callable[..., None], *arguments: Any, **constants: Any) -> None:
        names = self.kernel.arg_names[len(arguments) :]
        launch(*arguments, *[constants[name] for name in names])


def number_step(setting: Hashable, kept: bool, *given: Tensor) -> int | None:
    """Return a number for everything that a step's machine code depends on; None: inspect again."""
    if not RELAUNCHES:
        return None
    tensors = tuple((t.dtype, t.shape, t.stride(), t.data_ptr() % 16, t.device) for t in given)
    key = (setting, kept, tensors)
    if key not in _KEYS:
        if len(_KEYS) >= MOST_KEYS:
            _KEYS.clear()
            Again.forget()
        _KEYS[key] = next(_numbers)
    return _KEYS[key]


def can_use_tma(launch: Launch, x: Tensor, y: Tensor) -> bool:
    """Tell whether the tensor memory accelerator can read these: it needs lines of 16 bytes."""
    return launch.arch >= 90 and are_aligned(x, y)


def are_aligned(x: Tensor, y: Tensor) -> bool:
    """Tell whether every row of both starts at a multiple of 16 bytes."""
    return all(t.data_ptr() % 16 == 0 and t.stride(0) * t.element_size() % 16 == 0 for t in (x, y))


def provide_descriptor_memory() -> None:
    """Give kernels that build their own TMA descriptors the memory for them."""
    triton.set_allocator(_allocate)


def _allocate(size: int, align: int, stream: int | None) -> Tensor:
    return torch.empty(size, dtype=torch.int8, device="cuda")


def side_arguments(x: Side, y: Side) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return both sides' rows and norms, in the kernels' order."""
    return x.raw, y.raw, x.inverse_norm, y.inverse_norm


def size_arguments(x: Side, y: Side) -> tuple[int, int, int, int, int]:
    """Return n, m, d and both sides' strides, in the kernels' order."""
    return len(x), len(y), x.raw.shape[1], x.raw.stride(0), y.raw.stride(0)


def label_arguments(problem: Problem) -> tuple[Tensor, Tensor]:
    """Return the labels, or a valid pointer if there are none."""
    pairs, unused = problem.pairs, problem.x.inverse_norm
    if pairs.row_labels is None or pairs.column_labels is None:
        return unused, unused
    return pairs.row_labels, pairs.column_labels


def mask_constants(problem: Problem) -> dict[str, bool]:
    """Return the constants of the pairs that are fixed when a kernel is compiled."""
    pairs = problem.pairs
    return {
        "LABELS": pairs.row_labels is not None,
        "EXCLUDE_SELF": pairs.exclude_self,
        "OWN_KEYS": pairs.own_key_columns > 0,
    }
