"""What the CUDA driver does for a tower: page-locked memory, streams, copies that do not block.

Called through ctypes in the primary context, which ONNX Runtime uses too, so that addresses mean
the same to both. What must stay true: every call's result is checked; memory lives as long as the
process's use of its card, since captured graphs hold addresses.
"""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LIBRARY: Final = "libcuda.so.1"
_SLEEP_WHILE_WAITING: Final = 4  # of a context: its waiters leave the CPU to who decodes
_PORTABLE: Final = 1  # page-locked for every context
_NON_BLOCKING: Final = 1  # a stream that does not wait for the default one
_SLEEPING: Final = 1 | 2  # an event whose waiter sleeps; it tells no times


class CardMemory(Protocol):
    """What a lane needs of a device: memory on both sides, and copies in order."""

    kind: str  # as ONNX Runtime names it
    number: int
    stream: int  # the address of the stream that computes

    def allocate_host(self, count: int) -> NDArray[np.uint8]:
        """Return so many bytes that the device can read and write directly."""
        ...

    def allocate_device(self, count: int) -> int:
        """Return the address of so many bytes on the device."""
        ...

    def create_event(self) -> int:
        """Return a mark that can be put into a stream."""
        ...

    def upload(self, target: int, source: NDArray[np.uint8], mark: int) -> None:
        """Begin to copy to the device, beside what computes; `mark` is passed at the end."""
        ...

    def follow(self, mark: int) -> None:
        """Have the computing stream wait for a mark."""
        ...

    def download(self, target: NDArray[np.uint8], source: int, mark: int) -> None:
        """Begin to copy from the device after what computes; `mark` is passed at the end."""
        ...

    def wait(self, mark: int) -> None:
        """Wait until a mark is passed."""
        ...


class CudaError(RuntimeError):
    """A call of the driver that failed."""


class CudaMemory:
    """One card through the driver; any thread may call it."""

    kind = "cuda"

    def __init__(self, number: int) -> None:
        self.number = number
        self._driver = _open_driver()
        device, context = ctypes.c_int(), ctypes.c_void_p()
        _check(self._driver.cuDeviceGet(ctypes.byref(device), number), "find the device")
        # Refused where the context is in use already; then waiting takes a CPU, and works as well.
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
        """Return the address of bytes on the card; raise `out of memory` where none are left."""
        self._enter()
        pointer = ctypes.c_uint64()
        _check(
            self._driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(count)), "allocate"
        )
        return int(pointer.value)

    def create_event(self) -> int:
        """Return a mark for streams."""
        self._enter()
        event = ctypes.c_void_p()
        _check(self._driver.cuEventCreate(ctypes.byref(event), _SLEEPING), "create an event")
        return int(event.value or 0)

    def upload(self, target: int, source: NDArray[np.uint8], mark: int) -> None:
        """Begin to copy to the card, beside what computes."""
        self._enter()
        size = ctypes.c_size_t(source.nbytes)
        host, stream = ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(self._copies)
        call = self._driver.cuMemcpyHtoDAsync_v2
        _check(call(ctypes.c_uint64(target), host, size, stream), "copy to the device")
        _check(self._driver.cuEventRecord(ctypes.c_void_p(mark), stream), "record an event")

    def follow(self, mark: int) -> None:
        """Have the computing stream wait for a mark."""
        self._enter()
        call = self._driver.cuStreamWaitEvent
        _check(call(ctypes.c_void_p(self.stream), ctypes.c_void_p(mark), 0), "wait for an event")

    def download(self, target: NDArray[np.uint8], source: int, mark: int) -> None:
        """Begin to copy from the card after what computes."""
        self._enter()
        size = ctypes.c_size_t(target.nbytes)
        host, stream = ctypes.c_void_p(target.ctypes.data), ctypes.c_void_p(self.stream)
        call = self._driver.cuMemcpyDtoHAsync_v2
        _check(call(host, ctypes.c_uint64(source), size, stream), "copy from the device")
        _check(self._driver.cuEventRecord(ctypes.c_void_p(mark), stream), "record an event")

    def wait(self, mark: int) -> None:
        """Wait until a mark is passed, without the interpreter lock."""
        self._enter()
        _check(self._driver.cuEventSynchronize(ctypes.c_void_p(mark)), "wait for the device")

    def _create_stream(self) -> int:
        self._enter()
        stream = ctypes.c_void_p()
        _check(self._driver.cuStreamCreate(ctypes.byref(stream), _NON_BLOCKING), "make a stream")
        return int(stream.value or 0)

    def _enter(self) -> None:
        """Make the card's context that of this thread; the driver keeps one for each thread."""
        _check(self._driver.cuCtxSetCurrent(self._context), "enter the device")


def count_cards() -> int:
    """Return the number of CUDA devices that the driver sees; 0 without a driver."""
    try:
        driver = _open_driver()
    except (OSError, CudaError):
        return 0
    count = ctypes.c_int(0)
    return count.value if driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def name_card(number: int) -> str:
    """Return the model of a card as its driver names it."""
    driver = _open_driver()
    device, text = ctypes.c_int(), ctypes.create_string_buffer(128)
    _check(driver.cuDeviceGet(ctypes.byref(device), number), "find the device")
    _check(driver.cuDeviceGetName(text, len(text), device), "name the device")
    return text.value.decode(errors="replace")


def view_as(memory: NDArray[np.uint8], shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return the beginning of some bytes as an array."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return memory[:size].view(dtype).reshape(shape)


@functools.cache
def _open_driver() -> Any:
    """Return the driver, started; raise `OSError` where there is none."""
    driver = ctypes.CDLL(_LIBRARY)
    _check(driver.cuInit(0), "start")
    return driver


def _check(result: int, what: str) -> None:
    """Raise for a result that is not success; 2 is the driver's out of memory."""
    if result:
        meaning = ": out of memory" if result == 2 else ""
        raise CudaError(f"CUDA driver error {result}{meaning}: it could not {what}")
