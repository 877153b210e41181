"""What the library asks of the CUDA driver, recorded by a driver that is not one.

It proves everything about a launch but the machine code: which image is chosen, the grid, shared
memory, the arguments' order and number, the scratch memory's size, and errors passed on. The driver
offers no way to wait and none to allocate, so a launch that did either would not even load.
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
  *f = strstr(name, "select") || strstr(name, "rows") ? (void*)4 : (void*)3;
  return 0;
}
int cuFuncSetAttribute(void* f, int which, int value) {
  printf("{\"call\": \"attribute\", \"which\": %d, \"value\": %d}\n", which, value);
  return 0;
}
int cuLaunchKernel(void* f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void* stream, void** list, void** extra) {
  int second = (long)f == 4;
  int count = number(second ? "FAKE_SECOND_ARGUMENTS" : "FAKE_ARGUMENTS", second ? 7 : 15);
  printf("{\"call\": \"launch\", \"function\": %d, \"grid\": [%u, %u, %u], \"block\": %u, "
         "\"shared\": %u, \"stream\": %d, \"arguments\": [",
         (int)(long)f, x, y, z, bx, shared, (int)(long)stream);
  int pointers = number(second ? "FAKE_SECOND_POINTERS" : "FAKE_POINTERS", second ? 5 : 9);
  for (int i = 0; i < count; i++)
    printf("%s%lld", i ? ", " : "", i < pointers ? *(long long*)list[i] : *(int*)list[i]);
  printf("], \"scratch\": [%lld, %lld]}\n", *(long long*)list[count], *(long long*)list[count + 1]);
  return number(second ? "FAKE_SECOND_ERROR" : "FAKE_LAUNCH_ERROR", 0);
}
"""

_CALLER: Final = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
function = getattr(library, sys.argv[2])
values = [int(v) for v in sys.argv[3:]]
sizes = 4 if "topk" in sys.argv[2] else 3
pointers, sizes = values[:-sizes], values[-sizes:]
if "scratch" in sys.argv[2]:
    bytes = ctypes.c_size_t()
    code = function(
        *map(ctypes.c_void_p, pointers), *map(ctypes.c_int64, sizes), ctypes.byref(bytes)
    )
    print('{"call": "scratch", "bytes": %d}' % bytes.value)
else:
    code = function(*map(ctypes.c_void_p, pointers), *map(ctypes.c_int64, sizes))
ctypes.CDLL(None).fflush(None)
sys.exit(code)
"""


def _row(kernel: str, arch: int, aligned: bool, work: Path) -> dict[str, Any]:
    image = f"{kernel}-{arch}-{'aligned' if aligned else 'generic'}"
    (work / image).write_bytes(image.encode() + b"\0")
    shared = 60_000 if kernel == "tile_maxima_kernel" else 30_720
    columns = {"normalise_rows_kernel_once": 1024, "normalise_rows_kernel": 8192}.get(kernel, 128)
    return {
        "kernel": kernel, "entry": kernel, "architecture": arch, "aligned": aligned,
        "shared_bytes": shared, "warps": 4, "rows": 64 if "middle" in kernel else 16,
        "columns": columns, "image": image,
    }  # fmt: skip


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recording driver and a library whose images are their own names."""
    work = tmp_path_factory.mktemp("machine")
    names = (
        "score_kernel",
        "score_kernel_sigmoid",
        "score_kernel_middle",
        "score_kernel_sigmoid_middle",
        "normalise_rows_kernel_once",
        "normalise_rows_kernel",
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


def test_the_classes_are_split_over_programs_and_rows_finished_by_a_second_launch(
    machine: Path,
) -> None:
    code, calls = _call(machine, "twinlens_score_cuda", *SOFTMAX)
    assert code == 0
    first, second = (call for call in calls if call["call"] == "launch")
    outputs, sizes = [6400] * 5, [33, 1000, 512, 512, 512, 1000]
    assert first["arguments"] == [1600, 3200, 4800, 4800, *outputs, *sizes]
    assert (first["grid"], second["grid"]) == ([3, 8, 1], [33, 1, 1])
    assert second["arguments"] == [6400, 4800, 4800, 6400, 6400, 1000, 1000]
    for launch in (first, second):
        assert launch["scratch"] == [0, 0]
        assert (launch["block"], launch["shared"], launch["stream"]) == (128, 30_720, 7)


@pytest.mark.parametrize(
    ("m", "image"), [(1024, "normalise_rows_kernel_once"), (1025, "normalise_rows_kernel")]
)
def test_long_rows_take_the_kernel_that_goes_over_them_twice(
    m: int, image: str, machine: Path
) -> None:
    _, calls = _call(machine, "twinlens_score_cuda", *SOFTMAX[:7], m, 512)
    loads = [call["image"] for call in calls if call["call"] == "load"]
    assert loads[-1] == f"{image}-90-aligned"


def test_more_tiles_than_a_grid_can_hold_are_shared_out(machine: Path) -> None:
    _, calls = _call(machine, "twinlens_score_cuda", *SOFTMAX[:7], 10_000_000, 512)
    assert calls[-2]["grid"] == [1, 65_535, 1]


@pytest.mark.parametrize(("bias", "name"), [(0, "score_kernel"), (5600, "score_kernel_sigmoid")])
@pytest.mark.parametrize(
    ("n", "d", "suffix"), [(149, 512, ""), (150, 512, "_middle"), (150, 70, "")]
)
def test_many_logits_take_wider_tiles(
    n: int, d: int, suffix: str, bias: int, name: str, machine: Path
) -> None:
    values = (*SOFTMAX[:4], bias, 6400, n, 1000, d)
    _, calls = _call(machine, "twinlens_score_cuda", *values)
    assert calls[0]["image"].rsplit("-", 2)[0] == name + suffix
    launch = next(call for call in calls if call["call"] == "launch")
    assert launch["grid"][0] == -(-n // (64 if suffix else 16))


def test_a_bias_takes_the_sigmoid_kernel(machine: Path) -> None:
    values = (*SOFTMAX[:4], 5600, *SOFTMAX[5:])
    _, calls = _call(machine, "twinlens_score_cuda", *values)
    assert calls[0]["image"] == "score_kernel_sigmoid-90-aligned"
    assert calls[-1]["arguments"][3] == 5600
    assert [call["call"] for call in calls] == ["load", "launch"]


@pytest.mark.parametrize(
    ("arch", "image"),
    [(80, "80-aligned"), (86, "80-aligned"), (90, "90-aligned"), (120, "0-aligned"), (75, "0-")],
)
def test_the_image_is_the_gpus_own_or_the_ptx(arch: int, image: str, machine: Path) -> None:
    _, calls = _call(machine, "twinlens_score_cuda", *SOFTMAX, arch=arch)
    assert calls[0]["image"].startswith(f"score_kernel-{image}")


@pytest.mark.parametrize(("x", "d"), [(1604, 512), (1600, 70)])
def test_unaligned_memory_takes_the_generic_kernel(x: int, d: int, machine: Path) -> None:
    values = (7, x, *SOFTMAX[2:8], d)
    _, calls = _call(machine, "twinlens_score_cuda", *values)
    assert calls[0]["image"] == "score_kernel-90-generic"


def test_the_top_k_uses_the_scratch_that_it_asked_for(machine: Path) -> None:
    n, m, d, k, splits, tiles = 5, 1000, 512, 3, 8, 8
    _, calls = _call(machine, "twinlens_topk_scratch", 1600, 3200, n, m, d, k)
    assert calls[-1]["bytes"] == 4 * (n * tiles + 2 * n * splits + n * 2 * k * 128)
    values = (7, 1600, 3200, 4800, 6400, 8000, 4096, n, m, d, k)
    shapes = {"arguments": 12, "pointers": 6, "second_arguments": 17, "second_pointers": 9}
    code, calls = _call(machine, "twinlens_topk_cuda", *values, **shapes)
    assert code == 0
    kinds = [call["call"] for call in calls]
    assert kinds == ["load", "attribute", "load", "launch", "launch"]
    assert calls[1] == {"call": "attribute", "which": 8, "value": 60_000}
    first, second = calls[3:]
    assert first["grid"] == [1, splits, 1]
    top = 4096 + 4 * n * tiles
    pointers = [1600, 3200, 4800, 4096, top, top + 4 * n * splits]
    assert first["arguments"] == [*pointers, n, m, d, d, d, tiles]
    assert (second["function"], second["grid"]) == (4, [n, 1, 1])
    found = top + 2 * 4 * n * splits
    assert second["arguments"][:9] == [*pointers, found, 6400, 8000]
    assert second["arguments"][9:] == [m, d, d, d, tiles, splits, k, k]


def test_an_error_of_the_driver_reaches_the_caller(machine: Path) -> None:
    assert _call(machine, "twinlens_score_cuda", *SOFTMAX, launch_error=99)[0] == 99
    assert _call(machine, "twinlens_score_cuda", *SOFTMAX, second_error=97)[0] == 97
    assert _call(machine, "twinlens_score_cuda", *SOFTMAX, load_error=98)[0] == 98


def test_nothing_is_launched_for_no_rows(machine: Path) -> None:
    values = (*SOFTMAX[:6], 0, 1000, 512)
    assert _call(machine, "twinlens_score_cuda", *values) == (0, [])
