"""The memory that two processes share."""

from __future__ import annotations

import os
import sys

import pytest

from twinlens.serving.workers.items.places import PlaceSizes, SharedPlaces, create_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory files are Linux's")
SIZES = PlaceSizes(images=3, texts=2, height=4, width=5)


def test_both_processes_see_the_same_memory() -> None:
    descriptor = create_memory(SIZES)
    try:
        owner, encoder = SharedPlaces(descriptor, SIZES), SharedPlaces(descriptor, SIZES)
        owner.pixels[2] = 7
        owner.unwanted[4] = 1
        encoder.taken[0] = 1
        assert encoder.pixels[2].sum() == 7 * 4 * 5 * 3
        assert encoder.pixels[:2].sum() == 0
        assert (encoder.unwanted[4], owner.taken[0]) == (1, 1)
    finally:
        os.close(descriptor)


def test_a_memory_that_is_too_small_is_refused() -> None:
    descriptor = create_memory(SIZES)
    try:
        with pytest.raises(ValueError, match="smaller than its"):
            SharedPlaces(descriptor, PlaceSizes(images=300, texts=2, height=64, width=64))
    finally:
        os.close(descriptor)
