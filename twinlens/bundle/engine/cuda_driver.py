"""The CUDA driver's part in running a tower: page-locked memory, streams, asynchronous copies.

Called through ctypes in the primary context, which ONNX Runtime uses too, so that both share
addresses. What must stay true: every call's result is checked; memory lives as long as the process
uses its GPU, since captured graphs hold addresses.
"""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LIBRARY: Final = "libcuda.so.1"
_SLEEP_WHILE_WAITING: Final = 4  # of a context: waiting threads leave the CPU to decoding
_PORTABLE: Final = 1  # page-locked for every context
_NON_BLOCKING: Final = 1  # a stream that does not wait for the default one
_SLEEPING: Final = 1 | 2  # an event whose waiter sleeps; it measures no time


class CardMemory(Protocol):
    """What a lane needs of a device: memory on both sides, and ordered copies."""

    kind: str  # as ONNX Runtime names it
    number: int
    stream: int  # address of the computing stream

    def allocate_host(self, count: int) -> NDArray[np.uint8]:
        """Return so many bytes of memory that the device can read and write directly."""
        ...

    def allocate_device(self, count: int) -> int:
        """Return the address of so many bytes of device memory."""
        ...

    def create_event(self) -> int:
        """Return an event for use in a stream."""
        ...

    def upload(self, target: int, source: NDArray[np.uint8], mark: int) -> None:
        """Start a copy to the device, concurrent with computing; it ends with `mark`."""
        ...

    def follow(self, mark: int) -> None:
        """Make the computing stream wait for an event."""
        ...

    def download(self, target: NDArray[np.uint8], source: int, mark: int) -> None:
        """Start a copy from the device after the computation; it ends with `mark`."""
        ...

    def wait(self, mark: int) -> None:
        """Wait for an event."""
        ...


class CudaError(RuntimeError):
    """A call of the driver that failed."""


class CudaMemory:
    """One GPU through the driver; any thread may call it."""

    kind = "cuda"

    def __init__(self, number: int) -> None:
        self.number = number
        self._driver = _open_driver()
        device, context = ctypes.c_int(), ctypes.c_void_p()
        _check(self._driver.cuDeviceGet(ctypes.byref(device), number), "find the device")
        # Refused if the context is already in use; waiting then occupies a CPU, but works.
        self._driver.cuDevicePrimaryCtxSetFlags_v2(device, _SLEEP_WHILE_WAITING)
        _check(
            self._driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "open the device"
        )
        self._context = context
        self.stream = self._create_stream()
        self._copies = self._create_stream()

    def allocate_host(self, count: int) -> NDArray[np.uint8]:
        """Return page-locked bytes, zeroed."""
        self._enter()
        pointer = ctypes.c_void_p()
        call = self._driver.cuMemHostAlloc
        _check(call(ctypes.byref(pointer), ctypes.c_size_t(count), _PORTABLE), "lock pages")
        memory = (ctypes.c_uint8 * count).from_address(pointer.value or 0)
        found: NDArray[np.uint8] = np.frombuffer(memoryview(memory), np.uint8)
        found[:] = 0
        return found

    def allocate_device(self, count: int) -> int:
        """Return the address of bytes on the GPU; raise `out of memory` if none are left."""
        self._enter()
        pointer = ctypes.c_uint64()
        _check(
            self._driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(count)), "allocate"
        )
        return int(pointer.value)

    def create_event(self) -> int:
        """Return an event for streams."""
        self._enter()
        event = ctypes.c_void_p()
        _check(self._driver.cuEventCreate(ctypes.byref(event), _SLEEPING), "create an event")
        return int(event.value or 0)

    def upload(self, target: int, source: NDArray[np.uint8], mark: int) -> None:
        """Start a copy to the GPU, concurrent with computing."""
        self._enter()
        size = ctypes.c_size_t(source.nbytes)
        host, stream = ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(self._copies)
        call = self._driver.cuMemcpyHtoDAsync_v2
        _check(call(ctypes.c_uint64(target), host, size, stream), "copy to the device")
        _check(self._driver.cuEventRecord(ctypes.c_void_p(mark), stream), "record an event")

    def follow(self, mark: int) -> None:
        """Make the computing stream wait for an event."""
        self._enter()
        call = self._driver.cuStreamWaitEvent
        _check(call(ctypes.c_void_p(self.stream), ctypes.c_void_p(mark), 0), "wait for an event")

    def download(self, target: NDArray[np.uint8], source: int, mark: int) -> None:
        """Start a copy from the GPU after the computation."""
        self._enter()
        size = ctypes.c_size_t(target.nbytes)
        host, stream = ctypes.c_void_p(target.ctypes.data), ctypes.c_void_p(self.stream)
        call = self._driver.cuMemcpyDtoHAsync_v2
        _check(call(host, ctypes.c_uint64(source), size, stream), "copy from the device")
        _check(self._driver.cuEventRecord(ctypes.c_void_p(mark), stream), "record an event")

    def wait(self, mark: int) -> None:
        """Wait for an event without the interpreter lock."""
        self._enter()
        _check(self._driver.cuEventSynchronize(ctypes.c_void_p(mark)), "wait for the device")

    def _create_stream(self) -> int:
        self._enter()
        stream = ctypes.c_void_p()
        _check(self._driver.cuStreamCreate(ctypes.byref(stream), _NON_BLOCKING), "make a stream")
        return int(stream.value or 0)

    def _enter(self) -> None:
        """Set the GPU's context for this thread; the driver keeps one per thread."""
        _check(self._driver.cuCtxSetCurrent(self._context), "enter the device")


def count_cards() -> int:
    """Return the number of CUDA devices that the driver finds; 0 without a driver."""
    try:
        driver = _open_driver()
    except (OSError, CudaError):
        return 0
    count = ctypes.c_int(0)
    return count.value if driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def name_card(number: int) -> str:
    """Return the model of a GPU as its driver names it."""
    driver = _open_driver()
    device, text = ctypes.c_int(), ctypes.create_string_buffer(128)
    _check(driver.cuDeviceGet(ctypes.byref(device), number), "find the device")
    _check(driver.cuDeviceGetName(text, len(text), device), "name the device")
    return text.value.decode(errors="replace")


def view_as(memory: NDArray[np.uint8], shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return the first bytes of a buffer as an array."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return memory[:size].view(dtype).reshape(shape)


@functools.cache
def _open_driver() -> Any:
    """Return the initialised driver; raise `OSError` if there is none."""
    driver = ctypes.CDLL(_LIBRARY)
    _check(driver.cuInit(0), "start")
    return driver


def _check(result: int, what: str) -> None:
    """Raise for a result that is not success; 2 is the driver's out of memory."""
    if result:
        meaning = ": out of memory" if result == 2 else ""
        raise CudaError(f"CUDA driver error {result}{meaning}: it could not {what}")
