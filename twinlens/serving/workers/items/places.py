"""The memory in which an HTTP process hands items to encoders: a place for each item under way.

A process has one such memory for each model that it serves, and shares it with the encoders by its
descriptor; it ends with those that hold it. What must stay true: pixels and `unwanted` are written
by the owner alone, `taken` by an encoder while it runs the item, and by the owner when none has it;
and a place is used again only once its item was answered or its encoder has ended.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PAGE = 4096


@dataclass(frozen=True)
class PlaceSizes:
    """The number of places for each tower in a memory, and the size of an image."""

    images: int
    texts: int
    height: int
    width: int

    @property
    def count(self) -> int:
        """The number of places; those of images come first."""
        return self.images + self.texts

    @property
    def offset(self) -> int:
        """Where the pixels begin."""
        return -(-2 * self.count // _PAGE) * _PAGE

    @property
    def bytes(self) -> int:
        """The size of the memory; pages that were never written take none."""
        return self.offset + max(1, self.images * self.height * self.width * 3)


class SharedPlaces:
    """One memory, as its owner or an encoder sees it."""

    def __init__(self, descriptor: int, sizes: PlaceSizes) -> None:
        if os.fstat(descriptor).st_size < sizes.bytes:
            raise ValueError(f"the memory is smaller than its {sizes.bytes} bytes; this is a bug")
        self.sizes = sizes
        memory = mmap.mmap(descriptor, sizes.bytes)
        view = memoryview(memory)
        self.taken = view[: sizes.count]
        self.unwanted = view[sizes.count : 2 * sizes.count]
        shape = (sizes.images, sizes.height, sizes.width, 3)
        flat = np.frombuffer(memory, np.uint8, int(np.prod(shape)), sizes.offset)
        self.pixels: NDArray[np.uint8] = flat.reshape(shape)


def create_memory(sizes: PlaceSizes) -> int:
    """Return the descriptor of a new memory."""
    descriptor = os.memfd_create("twinlens-places", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, sizes.bytes)
    return descriptor
