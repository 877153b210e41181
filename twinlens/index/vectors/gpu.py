"""Search on a GPU if FAISS supports and finds one; otherwise on the CPU.

The GPU holds copies: of inverted lists at 8 bits, and of the rows of segments that are searched
exactly. It supports no filters and no deletions, and at most `MOST` candidates; such searches, and
all searches after a failure of the device, run on the CPU, which always holds the originals.
`CUDA_VISIBLE_DEVICES=` turns it off.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy.typing as npt

from twinlens.index.vectors.arrays import Floats, RowNumbers, as_float32
from twinlens.index.vectors.faiss_setup import load_faiss, num_gpus

MOST = 2048  # candidates, and lists: the limits of FAISS's kernels
BLOCK = 65_536

log = logging.getLogger(__name__)


class Device:
    """One GPU and its temporary memory; one search at a time."""

    def __init__(self, faiss: Any) -> None:
        self.faiss = faiss
        self.resources = faiss.StandardGpuResources()
        self.lock = threading.Lock()


@functools.cache
def find_device() -> Device | None:
    """Return the GPU, or None if FAISS finds none."""
    faiss = load_faiss()
    if not num_gpus(faiss):
        return None
    try:
        return Device(faiss)
    except RuntimeError as error:
        log.warning("the GPU cannot be used, searching on the CPU: %s", error)
        return None


class DeviceIndex:
    """A copy of an index or of rows on the GPU; dropped after the first failure."""

    def __init__(self, device: Device, index: Any, what: str) -> None:
        self._device = device
        self._index = index
        self._what = what

    def search(
        self, queries: Floats, count: int, probe: int = 0
    ) -> tuple[Floats, RowNumbers] | None:
        """Return the best rows of each query, or None if the CPU has to search."""
        if self._index is None or count > MOST or probe > MOST:
            return None
        params = self._device.faiss.SearchParametersIVF(nprobe=probe) if probe else None
        with self._device.lock:
            if self._index is None:
                return None
            try:
                scores, places = self._index.search(queries, count, params=params)
            except RuntimeError as error:
                log.warning("%s: the GPU failed, continuing on the CPU: %s", self._what, error)
                self._index = None
                return None
        return scores, places


def copy_index(index: Any, what: str) -> DeviceIndex | None:
    """Return a copy of a FAISS index on the GPU, or None without a GPU or enough memory."""
    device = find_device()
    if device is None:
        return None
    try:
        copy = device.faiss.index_cpu_to_gpu(device.resources, 0, index)
    except RuntimeError as error:
        log.warning("the index %s does not fit on the GPU, searching on the CPU: %s", what, error)
        return None
    return DeviceIndex(device, copy, what)


def copy_rows(rows: npt.NDArray[Any]) -> DeviceIndex | None:
    """Return rows on the GPU in half precision, as stored; None without enough memory."""
    device = find_device()
    if device is None:
        return None
    faiss = device.faiss
    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = True
    try:
        flat = faiss.GpuIndexFlatIP(device.resources, rows.shape[1], config)
        for start in range(0, len(rows), BLOCK):
            flat.add(as_float32(rows[start : start + BLOCK]))
    except RuntimeError as error:
        log.warning("%d rows do not fit on the GPU, searching on the CPU: %s", len(rows), error)
        return None
    return DeviceIndex(device, flat, f"{len(rows)} rows")


def add_blocks(
    index: Any, blocks: Callable[[], Iterator[Floats]], *, has_kernels: bool = False
) -> Any:
    """Return the trained `index` with all blocks added, on the GPU if possible."""
    device = find_device() if has_kernels else None
    if device is not None:
        try:
            copy = device.faiss.index_cpu_to_gpu(device.resources, 0, index)
            for block in blocks():
                copy.add(block)
            return device.faiss.index_gpu_to_cpu(copy)
        except RuntimeError as error:
            log.warning("the GPU cannot add the rows, adding them on the CPU: %s", error)
    for block in blocks():
        index.add(block)
    return index
