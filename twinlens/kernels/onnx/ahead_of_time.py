"""Compile the Triton kernels on a machine that needs no GPU and no driver, and inspect the result.

`VARIANTS` names every kernel that is built, `compile_variant` makes one, `inspect_cubin` counts in
its machine code what must be there and what must not. Must run with TRITON_INTERPRET unset: whether
a kernel is compiled or interpreted is settled when its module is imported.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from twinlens.errors import InputError
from twinlens.kernels.gpu import gradient, gradient_rows, softmax, sweep, tiles, topk
from twinlens.kernels.gpu.tile_table import KernelName, Tile, find_tile

PTX_VERSION: Final = (
    87  # drivers since CUDA 12.8 read it, and so do all assemblers that triton brings
)
ARCHITECTURES: Final = (80, 90, 100)
_WIDTHS: Final = {"bf16": 2, "fp16": 2, "fp32": 4}
_SOURCES: Final = (tiles, sweep, gradient, gradient_rows, softmax, topk)
_POINTERS: Final = {
    "row_label_ptr": "*i64",
    "column_label_ptr": "*i64",
    "underflowed_ptr": "*i32",
    "lse_ptr": "*fp64",
    "index_ptr": "*i64",
}
_OF_ELEMENTS: Final = frozenset({"x_ptr", "y_ptr", "g_ptr", "terms_ptr"})
# Divisible by 16 in the aligned variant; launching it on anything else would be wrong.
_ALIGNED: Final = frozenset({"x_ptr", "y_ptr", "g_ptr", "d", "stride_x", "stride_y", "stride_g"})


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
    hot: bool = True  # the kernels in which a spilled register costs the whole pass

    @property
    def name(self) -> str:
        """Return a name that no other variant has."""
        flags = "".join(f"_{key.lower()}" for key, value in self.constants if value is True)
        flags += "_middle" if self.tile == "softmax_middle" else ""
        alignment = "aligned" if self.aligned else "generic"
        return f"{self.kernel}{flags}_{self.dtype}_sm{self.arch}_{alignment}"

    @property
    def sizes(self) -> Tile:
        """Return the tile that the table gives."""
        return find_tile(
            self.tile, self.arch, _WIDTHS[self.dtype], self.width, aligned=self.aligned
        )


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of a variant."""

    variant: KernelVariant
    cubin: bytes
    ptx: str
    entry: str
    shared_bytes: int
    arguments: int  # that we pass; the kernel has two more, for scratch memory
    in_flight: int  # products on Hopper that may still run when the next memory is filled

    @property
    def parameters(self) -> int:
        """Return how many parameters the entry really has."""
        head = self.ptx[self.ptx.index(".entry") :]
        return head[: head.index(")")].count(".param")


@dataclass(frozen=True)
class Inspection:
    """What the machine code holds."""

    registers: int
    stack_bytes: int
    spills: int  # loads and stores of local memory
    instructions: frozenset[str]


def list_variants() -> list[KernelVariant]:
    """Return all variants: of each architecture and type, aligned and not."""
    both = (True, False)
    out = []
    for arch in ARCHITECTURES:
        for dtype in ("bf16", "fp16", "fp32"):
            for aligned in both:
                out += _training_variants(arch, dtype, aligned)
                out += _inference_variants(arch, dtype, aligned)
        if arch >= 90:
            for dtype in _WIDTHS:
                out += _tma_variants(arch, dtype)
    return out


def compile_variant(variant: KernelVariant) -> Compiled:
    """Compile one variant; raise if the interpreter has taken its kernel."""
    kernel = _find_kernel(variant.kernel)
    constants = _find_constants(kernel, variant)
    names = list(kernel.arg_names)
    passed = [name for name in names if name not in constants]
    signature = {
        name: "constexpr" if name in constants else _type_of(name, variant.dtype) for name in names
    }
    attributes = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(names)
        if variant.aligned and name in _ALIGNED
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    tile = variant.sizes
    options = {
        "num_warps": tile.warps,
        "num_stages": tile.stages,
        "ptx_version": PTX_VERSION,
        "enable_fp_fusion": True,
    }
    with triton.knobs.compilation.scope():
        triton.knobs.compilation.disable_line_info = True  # a quarter of the size
        target = GPUTarget("cuda", variant.arch, 32)
        made = triton.compile(source, target=target, options=options)
    metadata = made.metadata
    pending = re.findall(r"pendings = (\d+)", made.asm["ttgir"])
    return Compiled(
        variant, made.asm["cubin"], made.asm["ptx"], metadata.name, metadata.shared, len(passed),
        max(map(int, pending), default=0),
    )  # fmt: skip


def inspect_cubin(cubin: bytes) -> Inspection:
    """Disassemble and count; uses the tools that triton brings."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage, code = (
            subprocess.run([tool, flag, path], capture_output=True, text=True, check=True).stdout
            for flag in ("-res-usage", "-sass")
        )
    resources = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if resources is None:
        raise RuntimeError(f"cuobjdump reports no registers: {usage[:200]}")
    words = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?([A-Z0-9]+)", code, re.MULTILINE)
    return Inspection(
        registers=int(resources[1]),
        stack_bytes=int(resources[2]),
        spills=sum(word in ("LDL", "STL") for word in words),
        instructions=frozenset(words),
    )


@functools.cache
def hash_sources() -> str:
    """Return the identity of all kernel sources and tiles: what a built library must match."""
    digest = hashlib.sha256(triton.__version__.encode())
    paths = [Path(inspect.getfile(module)) for module in _SOURCES]
    for path in [*paths, Path(inspect.getfile(Tile)), Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


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


def _tma_variants(arch: int, dtype: str) -> list[KernelVariant]:
    """Return the training kernels that read by the tensor memory accelerator."""
    at: dict[str, Any] = {"arch": arch, "dtype": dtype, "aligned": True}
    sums, sigmoid = (("COLUMNS", True), ("TMA", True)), (("SIGMOID", True), ("TMA", True))
    return [
        KernelVariant("sweep_kernel", "sweep_tma", constants=sums, **at),
        KernelVariant("gradient_chunk_kernel", "gradient_tma", constants=(("TMA", True),), **at),
        KernelVariant("gradient_chunk_kernel", "sigmoid_tma", constants=sigmoid, **at),
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
    if aligned and dtype == "fp32":  # what the library has; rows of logits are float32 anyhow
        variants += [
            KernelVariant("score_kernel", "softmax_middle", **at),
            KernelVariant("score_kernel", "softmax_middle", constants=sigmoid, **at),
            KernelVariant("normalise_rows_kernel", "row", constants=once, **at),
            KernelVariant("normalise_rows_kernel", "long_row", **at),
        ]
    return variants


def _find_kernel(name: str) -> Any:
    for module in _SOURCES:
        kernel = getattr(module, name, None)
        if kernel is not None:
            if not isinstance(kernel, triton.runtime.JITFunction):
                raise InputError("TRITON_INTERPRET is set: kernels are interpreted, not compiled")
            return kernel
    raise RuntimeError(f"no kernel named {name}; this is a bug")


def _find_constants(kernel: Any, variant: KernelVariant) -> dict[str, Any]:
    tile = variant.sizes
    known: dict[str, Any] = {
        **tile.sizes,
        "GROUP": 8,
        "D": variant.width,
        "EVEN_K": variant.aligned,
        "UP": False,
        "PRECISION": _find_precision(variant),
        "SCAN": 4096,
        "PARTS": tile.parts,
        "WAIT": variant.arch // 10 == 9,
        "SPLITS": 512,
        "BLOCK": tile.BN,
        **dict(variant.constants),
    }
    names = [parameter.name for parameter in kernel.params if parameter.is_constexpr]
    return {name: known.get(name, False) for name in names}


def _find_precision(variant: KernelVariant) -> str:
    if variant.dtype != "fp32":
        return "tf32"
    return "tf32x3" if variant.kernel in ("score_kernel", "tile_maxima_kernel") else "ieee"


def _type_of(name: str, dtype: str) -> str:
    if not name.endswith("_ptr"):
        return "i32"
    return f"*{dtype}" if name in _OF_ELEMENTS else _POINTERS.get(name, "*fp32")
