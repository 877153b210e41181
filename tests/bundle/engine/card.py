"""A card that is not one: its memory is this process's, and its work is done at once.

ONNX Runtime's CPU provider reads and writes that memory by address, as CUDA's would.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray


class StandInCard:
    """Fits `CardMemory`; counts what it was asked for, and the threads that asked."""

    kind = "cpu"
    number = 0
    stream = 1

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.kept: dict[int, NDArray[np.uint8]] = {}
        self.uploads: list[int] = []
        self.marks = 0
        self.followed: list[int] = []
        self.computing_threads: set[int] = set()

    def allocate_host(self, count: int) -> NDArray[np.uint8]:
        return np.zeros(count, np.uint8)

    def allocate_device(self, count: int) -> int:
        if count > self.room:
            raise RuntimeError("CUDA driver error 2: out of memory: it could not allocate")
        self.room -= count
        memory = np.zeros(count + 64, np.uint8)
        address = memory.ctypes.data + -memory.ctypes.data % 64
        self.kept[address] = memory[address - memory.ctypes.data :][:count]
        return address

    def create_event(self) -> int:
        self.marks += 1
        return self.marks

    def upload(self, target: int, source: NDArray[np.uint8], mark: int) -> None:
        self.kept[target][: source.nbytes] = source
        self.uploads.append(source.nbytes)

    def follow(self, mark: int) -> None:
        self.computing_threads.add(threading.get_ident())
        self.followed.append(mark)

    def download(self, target: NDArray[np.uint8], source: int, mark: int) -> None:
        target[...] = self.kept[source][: target.nbytes]

    def wait(self, mark: int) -> None:
        assert 0 < mark <= self.marks


def open_cpu(path: Any) -> Any:
    """Return a session of ONNX Runtime on the CPU."""
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
