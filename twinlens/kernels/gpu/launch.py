"""What every launch on a device has in common: architecture, tile, constants, alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from twinlens.kernels.gpu.tile_table import KernelName, Tile, find_tile


@dataclass(frozen=True)
class Launch:
    """What all launches on one device have in common."""

    arch: int  # 80, 90, ...; 0 when interpreted
    processors: int

    @staticmethod
    def on(device: torch.device) -> Launch:
        """Return the settings for a device; the CPU means the interpreter."""
        if device.type != "cuda":
            return Launch(0, 2)
        properties = torch.cuda.get_device_properties(device)
        return Launch(properties.major * 10 + properties.minor, properties.multi_processor_count)

    def tile(self, kernel: KernelName, x: Tensor, y: Tensor) -> Tile:
        """Return the table's tile for this device and these embeddings."""
        d, size = x.shape[1], x.element_size()
        return find_tile(kernel, self.arch, size, d, aligned=are_aligned(x, y))

    def options(self, tile: Tile, like: Tensor) -> dict[str, Any]:
        """Return the constants that every kernel takes."""
        up = self.arch == 0 and like.dtype != torch.float32
        precision = "ieee" if like.dtype == torch.float32 else "tf32"
        return {
            **tile.sizes,
            "UP": up,
            "PRECISION": "ieee" if up else precision,
            "num_warps": tile.warps,
            "num_stages": tile.stages,
        }


def can_use_tma(launch: Launch, x: Tensor, y: Tensor) -> bool:
    """Tell whether the tensor memory accelerator takes these: it wants 16-byte lines."""
    return launch.arch >= 90 and are_aligned(x, y)


def are_aligned(x: Tensor, y: Tensor) -> bool:
    """Tell whether every row of both starts at a multiple of 16 bytes."""
    return all(t.data_ptr() % 16 == 0 and t.stride(0) * t.element_size() % 16 == 0 for t in (x, y))


def provide_descriptor_memory() -> None:
    """Let kernels that build their own TMA descriptors have the bytes for them."""
    triton.set_allocator(
        lambda size, align, stream: torch.empty(size, dtype=torch.int8, device="cuda")
    )
