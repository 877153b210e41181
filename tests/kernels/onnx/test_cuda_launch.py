"""What the library asks of the CUDA driver, recorded by a driver that is not one.

It proves everything about a launch but the machine code: which image is chosen, the grid, shared
memory, the arguments' order and number, the scratch memory given back, and errors passed on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from twinlens.kernels.onnx import build

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None,
    reason="building the library needs g++ (apt-get install g++); serving on a CPU does not",
)

_DRIVER: Final = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static char function[64];
static int number(const char* name, int fallback) {
  const char* text = getenv(name);
  return text ? atoi(text) : fallback;
}
int cuCtxGetCurrent(void** c) { *c = (void*)1; return 0; }
int cuCtxGetDevice(int* d) { *d = 0; return 0; }
int cuDeviceGetAttribute(int* v, int which, int device) {
  int arch = number("FAKE_ARCH", 90);
  *v = which == 75 ? arch / 10 : which == 76 ? arch % 10 : 132;
  return 0;
}
int cuModuleLoadData(void** m, const void* image) {
  printf("{\"call\": \"load\", \"image\": \"%s\"}\n", (const char*)image);
  *m = (void*)2;
  return number("FAKE_LOAD_ERROR", 0);
}
int cuModuleGetFunction(void** f, void* m, const char* name) {
  strncpy(function, name, 63);
  *f = strstr(name, "select") ? (void*)4 : (void*)3;
  return 0;
}
int cuFuncSetAttribute(void* f, int which, int value) {
  printf("{\"call\": \"attribute\", \"which\": %d, \"value\": %d}\n", which, value);
  return 0;
}
int cuMemAllocAsync(unsigned long long* p, size_t bytes, void* stream) {
  *p = 4096;
  printf("{\"call\": \"allocate\", \"bytes\": %zu}\n", bytes);
  return 0;
}
int cuMemFreeAsync(unsigned long long p, void* stream) {
  printf("{\"call\": \"free\", \"at\": %llu}\n", p);
  return 0;
}
int cuLaunchKernel(void* f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void* stream, void** list, void** extra) {
  int count = number("FAKE_ARGUMENTS", 11);
  printf("{\"call\": \"launch\", \"function\": %d, \"grid\": [%u, %u, %u], \"block\": %u, "
         "\"shared\": %u, \"stream\": %d, \"arguments\": [",
         (int)(long)f, x, y, z, bx, shared, (int)(long)stream);
  int pointers = number("FAKE_POINTERS", 5);
  for (int i = 0; i < count; i++)
    printf("%s%lld", i ? ", " : "", i < pointers ? *(long long*)list[i] : *(int*)list[i]);
  printf("], \"scratch\": [%lld, %lld]}\n", *(long long*)list[count], *(long long*)list[count + 1]);
  return number("FAKE_LAUNCH_ERROR", 0);
}
"""

_CALLER: Final = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
function = getattr(library, sys.argv[2])
values = [int(v) for v in sys.argv[3:]]
sizes = 4 if "topk" in sys.argv[2] else 3
pointers, sizes = values[:-sizes], values[-sizes:]
code = function(*map(ctypes.c_void_p, pointers), *map(ctypes.c_int64, sizes))
ctypes.CDLL(None).fflush(None)
sys.exit(code)
"""


def _row(kernel: str, arch: int, aligned: bool, work: Path) -> dict[str, Any]:
    image = f"{kernel}-{arch}-{'aligned' if aligned else 'generic'}"
    (work / image).write_bytes(image.encode() + b"\0")
    shared = 60_000 if kernel == "tile_maxima_kernel" else 30_720
    return {
        "kernel": kernel, "entry": kernel, "architecture": arch, "aligned": aligned,
        "shared_bytes": shared, "warps": 4, "rows": 16, "columns": 128, "image": image,
    }  # fmt: skip


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recording driver and a library whose images are their own names."""
    work = tmp_path_factory.mktemp("machine")
    names = (
        "similarity_kernel",
        "similarity_kernel_sigmoid",
        "tile_maxima_kernel",
        "select_kernel",
    )
    rows = [_row(k, a, e, work) for k in names for a in (80, 90, 0) for e in (True, False)]
    build._write_table(work, rows)
    build._link("g++", work, work / "library.so")
    (work / "driver.c").write_text(_DRIVER)
    files = [str(work / "driver.c"), "-o", str(work / "libcuda.so.1")]
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", *files], check=True)
    return work


def _call(machine: Path, function: str, *values: int, **fake: int) -> tuple[int, list[Any]]:
    environment = os.environ | {f"FAKE_{k.upper()}": str(v) for k, v in fake.items()}
    environment["LD_LIBRARY_PATH"] = str(machine)
    arguments = [sys.executable, "-c", _CALLER, str(machine / "library.so"), function]
    done = subprocess.run(
        [*arguments, *map(str, values)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


# stream, x, y, scale, bias (0: none), p; n, m, d
SOFTMAX: Final = (7, 1600, 3200, 4800, 0, 6400, 33, 1000, 512)


def test_a_launch_passes_its_arguments_in_the_kernels_order(machine: Path) -> None:
    code, calls = _call(machine, "twinlens_score_cuda", *SOFTMAX)
    assert code == 0
    launch = calls[-1]
    assert launch["arguments"] == [1600, 3200, 4800, 4800, 6400, 33, 1000, 512, 512, 512, 1000]
    assert launch["scratch"] == [0, 0]
    assert launch["grid"] == [3, 1, 1]
    assert (launch["block"], launch["shared"], launch["stream"]) == (128, 30_720, 7)


def test_a_bias_takes_the_sigmoid_kernel(machine: Path) -> None:
    values = (*SOFTMAX[:4], 5600, *SOFTMAX[5:])
    _, calls = _call(machine, "twinlens_score_cuda", *values)
    assert calls[0]["image"] == "similarity_kernel_sigmoid-90-aligned"
    assert calls[-1]["arguments"][3] == 5600


@pytest.mark.parametrize(
    ("arch", "image"),
    [(80, "80-aligned"), (86, "80-aligned"), (90, "90-aligned"), (120, "0-aligned"), (75, "0-")],
)
def test_the_image_is_the_gpus_own_or_the_ptx(arch: int, image: str, machine: Path) -> None:
    _, calls = _call(machine, "twinlens_score_cuda", *SOFTMAX, arch=arch)
    assert calls[0]["image"].startswith(f"similarity_kernel-{image}")


@pytest.mark.parametrize(("x", "d"), [(1604, 512), (1600, 70)])
def test_unaligned_memory_takes_the_generic_kernel(x: int, d: int, machine: Path) -> None:
    values = (7, x, *SOFTMAX[2:8], d)
    _, calls = _call(machine, "twinlens_score_cuda", *values)
    assert calls[0]["image"] == "similarity_kernel-90-generic"


def test_the_top_k_takes_scratch_from_the_stream_and_gives_it_back(machine: Path) -> None:
    n, m, d, k, splits, tiles = 5, 1000, 512, 3, 8, 8
    values = (7, 1600, 3200, 4800, 6400, 8000, n, m, d, k)
    code, calls = _call(machine, "twinlens_topk_cuda", *values, arguments=12, pointers=6)
    assert code == 0
    kinds = [call["call"] for call in calls]
    assert kinds == ["load", "attribute", "load", "allocate", "launch", "launch", "free"]
    assert calls[1] == {"call": "attribute", "which": 8, "value": 60_000}
    assert calls[3]["bytes"] == 4 * (n * tiles + 2 * n * splits + n * 2 * k * 128)
    first, second = calls[4], calls[5]
    assert first["grid"] == [1, splits, 1]
    top = 4096 + 4 * n * tiles
    pointers = [1600, 3200, 4800, 4096, top, top + 4 * n * splits]
    assert first["arguments"] == [*pointers, n, m, d, d, d, tiles]
    assert (second["function"], second["grid"]) == (4, [n, 1, 1])
    assert second["arguments"][:6] == pointers


def test_an_error_of_the_driver_reaches_the_caller(machine: Path) -> None:
    assert _call(machine, "twinlens_score_cuda", *SOFTMAX, launch_error=99)[0] == 99
    assert _call(machine, "twinlens_score_cuda", *SOFTMAX, load_error=98)[0] == 98


def test_nothing_is_launched_for_no_rows(machine: Path) -> None:
    values = (*SOFTMAX[:6], 0, 1000, 512)
    assert _call(machine, "twinlens_score_cuda", *values) == (0, [])
