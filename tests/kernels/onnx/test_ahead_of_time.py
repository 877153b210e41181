"""The kernels compile for GPUs that are not here, and their machine code is what was meant.

In a process of its own: this one may have them interpreted. Hot kernels must keep everything in
registers, those that write G nearly so; tiles of 64 rows and more must use the matrix instructions
of Hopper and Blackwell.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # bytes a block may use
# What one release of triton keeps in registers another spills: docs/benchmarks/kernels.md.
MOST_SPILLS = {
    "gradient_chunk_kernel": 500,  # in the branch for tiles with positives and edges
    "sweep_kernel": 8,
    "sweep_kernel_columns_keep": 250,  # where no memory accelerator writes the terms
    "prefix_sweep_kernel": 8,
    "prefix_gradient_kernel": 300,  # as above
    "score_kernel_middle": 32,
    "score_kernel_sigmoid_middle": 32,
}
TUNED = 90  # the one architecture on which tiles were timed
MOST_ELSEWHERE = {80: 250, 100: 1000}  # of a hot kernel: so that a change for the worse is seen
PLAIN = {  # of no product
    "select_kernel",
    "normalise_rows_kernel",
    "measure_kernel",
    "units_kernel",
    "projections_kernel",
    "gradient_kept_kernel",
}
MATRIX_UNIT = {80: "HMMA", 90: "HGMMA", 100: "UTCHMMA"}

_PROGRAM = """
import json, sys
from twinlens.kernels.onnx.ahead_of_time import compile_variant, inspect_cubin
from twinlens.kernels.onnx.variants import list_variants
variants = list_variants()
if sys.argv[1] == "list":
    print(json.dumps([v.name for v in variants]))
    sys.exit()
out = []
for v in variants:
    if v.name in sys.argv[2:]:
        made = compile_variant(v)
        seen = inspect_cubin(made.cubin)
        out.append(dict(
            name=v.name, arch=v.arch, hot=v.hot, kernel=v.kernel, dtype=v.dtype,
            rows=v.sizes.BN if v.kernel == "tile_maxima_kernel" else v.sizes.BM,
            in_flight=made.in_flight,
            tma=("TMA", True) in v.constants, shared=made.shared_bytes, ptx=made.ptx[:400],
            parameters=made.parameters, arguments=made.arguments, bytes=len(made.cubin),
            spills=seen.spills, stack=seen.stack_bytes, instructions=sorted(seen.instructions)))
print(json.dumps(out))
"""

# One of each kind; the rest are slow.
SOME = (
    "sweep_kernel_columns_bf16_sm90_aligned",
    "sweep_kernel_columns_tma_bf16_sm90_aligned",
    "sweep_kernel_sigmoid_fp32_sm80_generic",
    "underflowed_lse_kernel_swap_fp32_sm90_aligned",
    "gradient_chunk_kernel_bf16_sm90_aligned",
    "gradient_rows_kernel_fp16_sm80_aligned",
    "score_kernel_fp32_sm90_generic",
    "score_kernel_middle_fp32_sm90_aligned",
    "tile_maxima_kernel_bf16_sm90_aligned",
    "tile_maxima_kernel_bf16_sm100_aligned",
    "normalise_rows_kernel_once_fp32_sm90_aligned",
    "select_kernel_fp32_sm80_generic",
    "prefix_sweep_kernel_columns_bf16_sm90_generic",
    "prefix_gradient_kernel_tma_bf16_sm90_aligned",
    "gradient_kept_kernel_bf16_sm90_aligned",
    "measure_kernel_bf16_sm90_aligned",
)


def _ask(*arguments: str) -> Any:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def _hold_to_the_rules(made: dict[str, Any]) -> None:
    assert made["parameters"] == made["arguments"] + 2
    assert made["shared"] <= SHARED_LIMIT[made["arch"]]
    assert ".version 8.7" in made["ptx"]
    if made["hot"] and made["arch"] == TUNED:
        bounds = [most for start, most in MOST_SPILLS.items() if made["name"].startswith(start)]
        assert made["spills"] <= max(bounds, default=0), made["name"]
    elif made["hot"]:
        assert made["spills"] <= MOST_ELSEWHERE[made["arch"]], made["name"]
    instructions = set(made["instructions"])
    multiplies = made["kernel"] not in PLAIN
    if multiplies and made["dtype"] != "fp32":
        assert MATRIX_UNIT[made["arch"] if made["rows"] >= 64 else 80] in instructions
    assert ("UTMALDG" in instructions) == made["tma"]
    if made["kernel"] in ("score_kernel", "tile_maxima_kernel"):
        # Norms are read from a product's memory; it must have ended before that is refilled.
        assert made["in_flight"] == 0


@pytest.fixture(scope="module")
def some() -> dict[str, dict[str, Any]]:
    return {made["name"]: made for made in _ask("make", *SOME)}


@pytest.mark.parametrize("name", SOME)
def test_the_machine_code_is_what_was_meant(name: str, some: dict[str, dict[str, Any]]) -> None:
    _hold_to_the_rules(some[name])


@pytest.mark.slow
def test_every_variant_follows_the_rules() -> None:
    names = _ask("list")
    assert len(set(names)) == len(names)
    for made in _ask("make", *names):
        _hold_to_the_rules(made)


@pytest.mark.slow
def test_the_whole_library_builds_and_names_what_it_holds(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", "from twinlens.cli.main import run; run()", "kernels"]
    subprocess.run([*command, "build", "--out", str(tmp_path)], env=environment, check=True)
    library = tmp_path / "libtwinlens_similarity.so"
    manifest = json.loads(library.with_suffix(".json").read_text())
    assert library.stat().st_size < 2 << 20
    assert {k["architecture"] for k in manifest["kernels"]} == {0, 80, 90, 100}
    assert {k["aligned"] for k in manifest["kernels"]} == {True, False}
    answer = subprocess.run(
        [*command, "status", "--in", str(tmp_path), "--json"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(answer.stdout)["state"] == "current"
