"""Which images a step sees."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlens.errors import InputError
from twinlens.training.data.mixture import share_out
from twinlens.training.data.order import Blocks, Mixture, SampleOrder


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


SHARDS = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def blocked(shards: list[int], batch: int, seed: int, size: int) -> SampleOrder:
    starts = [sum(shards[:number]) for number in range(len(shards))]
    return SampleOrder(sum(shards), batch, seed, Blocks(size, starts))


@settings(max_examples=60, deadline=None)
@given(SHARDS, st.integers(1, 12), st.sampled_from([1, 2, 4]), st.integers(0, 9), st.data())
def test_blocks_reach_each_image_at_most_once_an_epoch_over_ranks_and_restarts(
    shards: list[int], size: int, world: int, seed: int, data: st.DataObject
) -> None:
    total = sum(shards)
    batch = world * data.draw(st.integers(1, max(1, total // world)))
    if total < max(2, batch):
        return
    order = blocked(shards, batch, seed, size)
    for epoch in range(2):
        steps = range(epoch * order.per_epoch, (epoch + 1) * order.per_epoch)
        seen = []
        for rank in range(world):
            fresh = blocked(shards, batch, seed, size)  # as a restarted rank has it
            for step in steps:
                kept = order.positions(step, rank, world)
                assert fresh.positions(step, rank, world) == kept
                assert len(kept) == batch // world
                seen += kept
        assert len(seen) == len(set(seen)) == order.per_epoch * batch  # no repeat; no gap but the
        assert set(seen) <= set(range(total))  # rest that makes no batch


def test_a_rank_reads_its_blocks_whole_and_one_after_another() -> None:
    order = blocked([100, 100, 100, 100], 8, 0, 50)
    ranks = [
        {p // 50 for step in range(order.per_epoch) for p in order.positions(step, rank, 2)}
        for rank in range(2)
    ]
    assert all(len(own) == 4 for own in ranks) and not ranks[0] & ranks[1]
    told = order.coming(0, 0, 2)
    assert sorted(p for low, high in told for p in range(low, high)) == sorted(
        p for step in range(order.per_epoch) for p in order.positions(step, 0, 2)
    )
    assert all(low // 100 == (high - 1) // 100 for low, high in told)
    assert order.coming(1, 0, 2) == []


def test_epochs_have_other_blocks_and_another_order() -> None:
    order = blocked([60, 60], 4, 0, 10)
    assert order.positions(0) != order.positions(order.per_epoch)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=2, max_size=4),
    st.lists(st.floats(0.01, 9.0), min_size=4, max_size=4),
)
def test_a_mixture_has_its_shares_and_no_part_repeats_before_it_was_seen(
    counts: list[int], weights: list[float]
) -> None:
    total, weights = sum(counts), weights[: len(counts)]
    order = SampleOrder(total, 1, 0, mixture=Mixture(counts, weights))
    shares = share_out(total, weights)
    starts = [sum(counts[:part]) for part in range(len(counts))]
    times = [0] * total
    for epoch in range(3):
        drawn = [order.positions(epoch * total + step)[0] for step in range(total)]
        for part, (start, count) in enumerate(zip(starts, counts, strict=True)):
            own = [place for place in drawn if start <= place < start + count]
            assert len(own) == shares[part]
        for place in drawn:
            times[place] += 1
    for start, count in zip(starts, counts, strict=True):
        own = times[start : start + count]
        assert max(own) - min(own) <= 1  # over epochs too
