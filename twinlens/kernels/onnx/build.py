"""Builds the library of the similarity operators: Triton kernels as machine code in a C++ library.

Needs triton and g++, but no GPU, driver or headers of ONNX Runtime or CUDA; `twinlens kernels
build` runs it. The manifest beside the library has each kernel's parameter count, shared memory and
tile, and the hash of the sources, for a loader to check.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinlens.errors import InputError, MissingDependencyError
from twinlens.kernels.onnx.register import LIBRARY_NAME

_HERE: Final = Path(__file__).parent
_SHELL: Final = "similarity.cc"
_FLAGS: Final = (
    "-std=c++17",
    "-O3",
    "-fopenmp-simd",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-parameter",
)


@dataclass(frozen=True)
class Built:
    """The result of a build."""

    library: Path
    manifest: Path
    kernels: list[dict[str, Any]]


def build_library(
    folder: Path | None = None, *, architectures: Sequence[int] = (80, 90, 100)
) -> Built:
    """Compile and link into `folder` (by default where sessions look); return the result.

    Without architectures it contains only the CPU kernels: enough to test, useless to serve.
    """
    variants = [v for arch in sorted(set(architectures)) for v in _list_variants(arch)]
    compiler = shutil.which("g++")
    if compiler is None:
        raise MissingDependencyError("building the kernels needs g++: apt-get install g++")
    folder = folder or _HERE
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / LIBRARY_NAME
    with tempfile.TemporaryDirectory() as work:
        kernels = _compile_kernels(Path(work), variants)
        _write_table(Path(work), kernels)
        fresh = Path(work) / LIBRARY_NAME
        _link(compiler, Path(work), fresh)
        # Written beside and renamed: a running server keeps the old file open.
        staged = library.with_suffix(".new")
        shutil.copy(fresh, staged)
        staged.replace(library)
    manifest = manifest_of(library)
    public = [{k: v for k, v in kernel.items() if k != "image"} for kernel in kernels]
    content = {"format": 1, "sources": _hash(kernels), "kernels": public}
    manifest.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return Built(library, manifest, public)


def manifest_of(library: Path) -> Path:
    """Return the path of a library's manifest."""
    return library.with_suffix(".json")


def is_current(library: Path) -> bool:
    """Tell whether a built library was made from the current sources."""
    from twinlens.kernels.onnx.ahead_of_time import hash_sources

    manifest = manifest_of(library)
    if not library.is_file() or not manifest.is_file():
        return False
    content = json.loads(manifest.read_text(encoding="utf-8"))
    return bool(content["sources"] == hash_sources())


def _compile_kernels(work: Path, variants: Sequence[Any]) -> list[dict[str, Any]]:
    """Compile all variants; write their images into `work`; return the table's rows."""
    oldest = min((variant.arch for variant in variants), default=0)
    rows = []
    for variant in variants:
        rows += _compile_one(work, variant, with_ptx=variant.arch == oldest)
    return rows


def _list_variants(arch: int) -> list[Any]:
    from twinlens.kernels.onnx.variants import ARCHITECTURES, list_variants

    if arch not in ARCHITECTURES:
        raise InputError(
            f"architecture {arch} is unknown; choose from {', '.join(map(str, ARCHITECTURES))}"
        )
    wanted = {"score_kernel", "normalise_rows_kernel", "tile_maxima_kernel", "select_kernel"}
    everything = list_variants()
    return [v for v in everything if v.arch == arch and v.dtype == "fp32" and v.kernel in wanted]


def _compile_one(work: Path, variant: Any, *, with_ptx: bool) -> list[dict[str, Any]]:
    """Return the rows of one variant: its cubin, and for the oldest architecture its PTX too."""
    from twinlens.kernels.onnx.ahead_of_time import compile_variant

    made = compile_variant(variant)
    if made.parameters != made.arguments + 2:
        raise InputError(
            f"{variant.name} has {made.parameters} parameters where {made.arguments} arguments and "
            "2 scratch pointers were expected: this triton launches differently; use 3.6 to 3.9"
        )
    flags = "".join(f"_{key.lower()}" for key, value in variant.constants if value is True)
    flags += "_middle" if variant.tile == "softmax_middle" else ""
    row = {
        "name": variant.name,
        "kernel": variant.kernel + flags,
        "entry": made.entry,
        "architecture": variant.arch,
        "aligned": variant.aligned,
        "parameters": made.parameters,
        "shared_bytes": made.shared_bytes,
        "warps": variant.sizes.warps,
        "rows": variant.sizes.BM,
        "columns": variant.sizes.BN,
    }
    rows = [_store(work, row, ".cubin", made.cubin)]
    if with_ptx:
        text = made.ptx.encode() + b"\0"
        rows.append(_store(work, row | {"architecture": 0}, ".ptx", text))
    return rows


def _store(work: Path, row: dict[str, Any], suffix: str, image: bytes) -> dict[str, Any]:
    path = work / (row["name"] + suffix)
    path.write_bytes(image)
    return row | {"image": path.name, "bytes": len(image)}


def _write_table(work: Path, kernels: list[dict[str, Any]]) -> None:
    """Write the C++ table of the embedded images, and the assembler lines that embed them."""
    lines = []
    for place, kernel in enumerate(kernels):
        symbol = f"twinlens_image_{place}"
        path = work / kernel["image"]
        lines += [
            f'asm(".section .rodata\\n.global {symbol}\\n.hidden {symbol}\\n.balign 64\\n"',
            f'    "{symbol}:\\n.incbin \\"{path}\\"\\n.previous\\n");',
            f'extern "C" const unsigned char {symbol}[];',
        ]
    lines.append("const Embedded kEmbedded[] = {")
    for place, kernel in enumerate(kernels):
        fields = [
            f'"{kernel["kernel"]}"',
            f'"{kernel["entry"]}"',
            str(kernel["architecture"]),
            "true" if kernel["aligned"] else "false",
            f"twinlens_image_{place}",
            *(str(kernel[key]) for key in ("shared_bytes", "warps", "rows", "columns")),
        ]
        lines.append(f"    {{{', '.join(fields)}}},")
    lines += ["    {}};", f"const int kEmbeddedCount = {len(kernels)};", ""]
    (work / "embedded_kernels.inc").write_text("\n".join(lines), encoding="utf-8")


def _link(compiler: str, work: Path, library: Path) -> None:
    command = [compiler, *_FLAGS, "-I", str(work), str(_HERE / _SHELL), "-o", str(library), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"g++ failed:\n{done.stderr[-3000:]}")


def _hash(kernels: list[dict[str, Any]]) -> str:
    if not kernels:
        return "no kernels"
    from twinlens.kernels.onnx.ahead_of_time import hash_sources

    return hash_sources()
