"""Compiles the Triton kernels on a machine without GPU or driver, and inspects the result.

`variants` lists the kernels to build, `compile_variant` builds one, `inspect_cubin` counts the
instructions that its machine code must and must not contain. TRITON_INTERPRET must be unset:
whether a kernel is compiled or interpreted is decided when its module is imported.
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
from twinlens.kernels.gpu import (
    ends,
    gradient,
    gradient_rows,
    prefix_tiles,
    softmax,
    sweep,
    tile_table,
    tiles,
    topk,
)
from twinlens.kernels.onnx.variants import KernelVariant

PTX_VERSION: Final = (
    87  # supported by drivers since CUDA 12.8, and by all assemblers that ship with triton
)
_SOURCES: Final = (tiles, sweep, gradient, gradient_rows, softmax, topk, prefix_tiles, ends)
_POINTERS: Final = {
    "row_label_ptr": "*i64",
    "column_label_ptr": "*i64",
    "underflowed_ptr": "*i32",
    "lse_ptr": "*fp64",
    "index_ptr": "*i64",
    "end_ptr": "*i32",
    "own_sum_ptr": "*fp64",
    "partial_ptr": "*fp64",
    "flag_ptr": "*fp64",
}
_OF_ELEMENTS: Final = frozenset(
    {"x_ptr", "y_ptr", "g_ptr", "terms_ptr", "kept_ptr", "out_ptr", "gx_ptr", "gy_ptr"}
)
_REALS: Final = frozenset({"share_i", "share_j", "headroom", "boost", "bar", "unboost", "weight"})
# Divisible by 16 in the aligned variant; launching it with anything else would be wrong.
_ALIGNED: Final = frozenset({"x_ptr", "y_ptr", "g_ptr", "d", "stride_x", "stride_y", "stride_g"})


@dataclass(frozen=True)
class Compiled:
    """The compiler's output for a variant."""

    variant: KernelVariant
    cubin: bytes
    ptx: str
    entry: str
    shared_bytes: int
    arguments: int  # arguments that we pass; the kernel has two more, for scratch memory
    in_flight: int  # products on Hopper that may still run when their memory is refilled

    @property
    def parameters(self) -> int:
        """Return the number of parameters in the entry point."""
        head = self.ptx[self.ptx.index(".entry") :]
        return head[: head.index(")")].count(".param")


@dataclass(frozen=True)
class Inspection:
    """What the machine code contains."""

    registers: int
    stack_bytes: int
    spills: int  # loads and stores of local memory
    instructions: frozenset[str]


def compile_variant(variant: KernelVariant) -> Compiled:
    """Compile one variant; raise if its kernel is interpreted."""
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
    """Disassemble and count, with the tools that ship with triton."""
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
    """Return a hash of all kernel sources and tiles, which a built library must match."""
    digest = hashlib.sha256(triton.__version__.encode())
    paths = [Path(inspect.getfile(module)) for module in _SOURCES]
    for path in [*paths, Path(inspect.getfile(tile_table)), Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


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
        return "fp32" if name in _REALS else "i32"
    return f"*{dtype}" if name in _OF_ELEMENTS else _POINTERS.get(name, "*fp32")
