"""Which images a step sees."""

from __future__ import annotations

import pytest

from twinlens.errors import InputError
from twinlens.training.data.order import SampleOrder


def test_each_epoch_sees_every_image_once_in_another_order() -> None:
    order = SampleOrder(12, 4, seed=0)
    epochs = [[p for step in range(3) for p in order.positions(3 * e + step)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0] != epochs[1]


def test_ranks_share_a_batch_without_overlap() -> None:
    order = SampleOrder(12, 4, seed=0)
    both = order.positions(5, rank=0, world=2) + order.positions(5, rank=1, world=2)
    assert both == order.positions(5)


def test_the_order_is_a_function_of_the_step_alone() -> None:
    straight, late = SampleOrder(40, 8, seed=3), SampleOrder(40, 8, seed=3)
    for step in range(12):
        straight.positions(step)
    assert straight.positions(12) == late.positions(12)


def test_a_batch_larger_than_the_data_says_what_to_set() -> None:
    with pytest.raises(InputError, match=r"batch is 256 but the data holds 100 .*--set batch=64"):
        SampleOrder(100, 256, seed=0)
    with pytest.raises(InputError, match="holds 1 usable image"):
        SampleOrder(1, 1, seed=0)
