"""The kernels that are compiled ahead of time, for each architecture and element type.

What must stay true: every kernel that a hot path launches is listed here with its launch's
constants, so that the compiler's report (registers, spills, instructions) applies to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from twinlens.kernels.gpu.tile_table import KernelName, Tile, find_tile

ARCHITECTURES: Final = (80, 90, 100)
WIDTHS: Final = {"bf16": 2, "fp16": 2, "fp32": 4}


@dataclass(frozen=True)
class KernelVariant:
    """One kernel for one architecture, element type and alignment."""

    kernel: str
    tile: KernelName
    arch: int
    dtype: str
    aligned: bool = True
    width: int = 512
    constants: tuple[tuple[str, Any], ...] = ()
    hot: bool = True  # kernels in which spilled registers dominate the run time

    @property
    def name(self) -> str:
        """Return a unique name."""
        flags = "".join(f"_{key.lower()}" for key, value in self.constants if value is True)
        flags += "_middle" if self.tile == "softmax_middle" else ""
        alignment = "aligned" if self.aligned else "generic"
        return f"{self.kernel}{flags}_{self.dtype}_sm{self.arch}_{alignment}"

    @property
    def sizes(self) -> Tile:
        """Return the tile from the table."""
        return find_tile(self.tile, self.arch, WIDTHS[self.dtype], self.width, aligned=self.aligned)


def list_variants() -> list[KernelVariant]:
    """Return all variants: for each architecture and type, aligned and not."""
    both = (True, False)
    out = []
    for arch in ARCHITECTURES:
        for dtype in ("bf16", "fp16", "fp32"):
            for aligned in both:
                out += _training_variants(arch, dtype, aligned)
                out += _inference_variants(arch, dtype, aligned)
                out += _prefix_variants(arch, dtype, aligned)
            out += _step_variants(arch, dtype)
        if arch >= 90:
            for dtype in WIDTHS:
                out += _tma_variants(arch, dtype)
    return out


def _training_variants(arch: int, dtype: str, aligned: bool) -> list[KernelVariant]:
    at: dict[str, Any] = {"arch": arch, "dtype": dtype, "aligned": aligned}
    sums, sigmoid = (("COLUMNS", True),), (("SIGMOID", True),)
    supcon = (("LABELS", True), ("EXCLUDE_SELF", True))
    swapped = (("SWAP", True),)
    return [
        KernelVariant("sweep_kernel", "sweep", constants=sums, **at),
        KernelVariant("sweep_kernel", "sweep", constants=supcon, **at),
        KernelVariant("sweep_kernel", "sweep", constants=sigmoid, **at),
        KernelVariant("underflowed_lse_kernel", "underflowed", hot=False, **at),
        KernelVariant("underflowed_lse_kernel", "underflowed", constants=swapped, hot=False, **at),
        KernelVariant("gradient_chunk_kernel", "gradient", **at),
        KernelVariant("gradient_chunk_kernel", "gradient", constants=supcon, **at),
        KernelVariant("gradient_chunk_kernel", "gradient", constants=sigmoid, **at),
        KernelVariant("gradient_rows_kernel", "gradient_rows", width=128, hot=False, **at),
    ]


def _prefix_variants(arch: int, dtype: str, aligned: bool) -> list[KernelVariant]:
    """Return the kernels of several prefixes in one pass, four of them."""
    at: dict[str, Any] = {"arch": arch, "dtype": dtype, "aligned": aligned}
    sums, sigmoid = (("COLUMNS", True), ("LINES", 4)), (("SIGMOID", True),)
    return [
        KernelVariant("prefix_sweep_kernel", "prefix_sweep", constants=sums, **at),
        KernelVariant("prefix_gradient_kernel", "prefix_gradient", **at),
        KernelVariant("prefix_gradient_kernel", "prefix_gradient", constants=sigmoid, **at),
    ]


def _step_variants(arch: int, dtype: str) -> list[KernelVariant]:
    """Return the launches before and after the products of a step on the diagonal."""
    at: dict[str, Any] = {"arch": arch, "dtype": dtype, "tile": "underflowed", "hot": False}
    few, kept = (("BM", 8),), (("BM", 64), ("BN", 256))
    gain = (("LINES", 16),)
    return [
        KernelVariant("measure_kernel", constants=few, **at),
        KernelVariant("gain_kernel", constants=gain, **at),
        KernelVariant("gain_kernel", constants=(*gain, ("SWAP", True)), **at),
        KernelVariant("units_kernel", constants=few, **at),
        KernelVariant("projections_kernel", constants=few, **at),
        KernelVariant("gradient_kept_kernel", constants=kept, **{**at, "hot": True}),
        KernelVariant("sweep_kernel", constants=(("COLUMNS", True), ("KEEP", True)),
                      **{**at, "tile": "sweep", "hot": True}),
    ]  # fmt: skip


def _tma_variants(arch: int, dtype: str) -> list[KernelVariant]:
    """Return the training kernels that read by the tensor memory accelerator."""
    at: dict[str, Any] = {"arch": arch, "dtype": dtype, "aligned": True}
    sums, sigmoid = (("COLUMNS", True), ("TMA", True)), (("SIGMOID", True), ("TMA", True))
    return [
        KernelVariant("sweep_kernel", "sweep_tma", constants=sums, **at),
        KernelVariant("gradient_chunk_kernel", "gradient_tma", constants=(("TMA", True),), **at),
        KernelVariant("gradient_chunk_kernel", "sigmoid_tma", constants=sigmoid, **at),
        KernelVariant("prefix_sweep_kernel", "prefix_sweep", constants=(*sums, ("LINES", 4)), **at),
        KernelVariant("prefix_gradient_kernel", "prefix_gradient", constants=sums[1:], **at),
        KernelVariant("prefix_gradient_kernel", "prefix_gradient", constants=sigmoid, **at),
    ]


def _inference_variants(arch: int, dtype: str, aligned: bool) -> list[KernelVariant]:
    at: dict[str, Any] = {"arch": arch, "dtype": dtype, "aligned": aligned}
    sigmoid, once = (("SIGMOID", True),), (("ONCE", True),)
    variants = [
        KernelVariant("score_kernel", "softmax", **at),
        KernelVariant("score_kernel", "softmax", constants=sigmoid, **at),
        KernelVariant("tile_maxima_kernel", "topk", **at),
        KernelVariant("select_kernel", "topk", hot=False, **at),
    ]
    if aligned and dtype == "fp32":  # types that the library supports; logits are float32 anyway
        variants += [
            KernelVariant("score_kernel", "softmax_middle", **at),
            KernelVariant("score_kernel", "softmax_middle", constants=sigmoid, **at),
            KernelVariant("normalise_rows_kernel", "row", constants=once, **at),
            KernelVariant("normalise_rows_kernel", "long_row", **at),
        ]
    return variants
