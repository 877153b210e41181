"""Batches in lanes give the rows of plain runs, whatever their size, order and thread."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bundle.engine.card import StandInCard, open_cpu
from twinlens.bundle.engine.cuda_session import bind_lanes
from twinlens.bundle.engine.lanes import LANES, SIZES, Lanes, pad_size


def draw(count: int, seed: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def session(toy_bundle: Path) -> Any:
    return open_cpu(toy_bundle / "image.onnx")


def run_plainly(session: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = session.run(["embedding"], {"pixels": pixels})[0]
    return rows


@pytest.mark.parametrize("captures", [True, False])
def test_rows_are_those_of_a_plain_run(session: Any, captures: bool) -> None:
    card = StandInCard()
    lanes = bind_lanes(session, card, captures=captures)
    for count in (1, 5, 2, 40, 5, 7, 257, 1):  # larger and smaller in turn: memory grows, stays
        pixels = draw(count, count)
        expected = run_plainly(session, pixels)
        np.testing.assert_allclose(lanes.embed(pixels), expected, atol=1e-6)
        np.testing.assert_allclose(lanes.embed(list(pixels)), expected, atol=1e-6)


def test_rows_are_kept_when_the_lane_is_used_again(session: Any) -> None:
    lanes = bind_lanes(session, StandInCard(), captures=True)
    kept = [lanes.embed(draw(4, seed)) for seed in range(6)]
    for seed, rows in enumerate(kept):
        np.testing.assert_allclose(rows, run_plainly(session, draw(4, seed)), atol=1e-6)


def test_texts_of_several_lengths_share_lanes(toy_bundle: Path) -> None:
    session = open_cpu(toy_bundle / "text.onnx")
    lanes = bind_lanes(session, StandInCard(), captures=True)
    for count, length in ((3, 4), (1, 8), (9, 2), (3, 4)):
        tokens = np.random.default_rng(count).integers(1, 6, (count, length), dtype=np.int64)
        expected = session.run(["embedding"], {"tokens": tokens})[0]
        np.testing.assert_allclose(lanes.embed(tokens), expected, atol=1e-6)


def test_only_the_items_travel_not_what_pads_them(session: Any) -> None:
    card = StandInCard()
    bind_lanes(session, card, captures=True).embed(draw(5))
    assert card.uploads == [5 * 8 * 8 * 3]


def test_many_threads_have_the_rows_of_their_own_items(session: Any) -> None:
    card = StandInCard()
    lanes = bind_lanes(session, card, captures=True)
    expected = {seed: run_plainly(session, draw(1 + seed, seed)) for seed in range(8)}
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(30):
            rows = lanes.embed(draw(1 + seed, seed))
            if not np.allclose(rows, expected[seed], atol=1e-6):
                wrong.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert len(card.computing_threads) == 1  # captured graphs allow no more


def test_two_batches_are_under_way_and_no_third(session: Any) -> None:
    """A third waits until one of two has its rows."""
    gate, inside = threading.Event(), threading.Semaphore(0)

    class Gated(StandInCard):
        def upload(self, target: int, source: NDArray[np.uint8], mark: int) -> None:
            inside.release()
            assert gate.wait(20)
            super().upload(target, source, mark)

    lanes = bind_lanes(session, Gated(), captures=True)
    workers = [threading.Thread(target=lanes.embed, args=(draw(2),)) for _ in range(LANES + 1)]
    for worker in workers:
        worker.start()
    assert all(inside.acquire(timeout=20) for _ in range(LANES))
    assert not inside.acquire(timeout=0.1)
    gate.set()
    for worker in workers:
        worker.join(20)
    assert inside.acquire(timeout=1)


def test_each_shape_of_a_lane_has_its_own_graph_up_to_a_number() -> None:
    started: list[int] = []
    lanes = Lanes(
        StandInCard(),
        bind=lambda source, shape, target, rows: shape,
        start=lambda binding, graph: started.append(graph),
        dtype=np.dtype(np.int64),
        width=2,
        captures=True,
    )
    lanes.embed(np.zeros((16, 99), np.int64))
    lanes.embed(np.zeros((16, 99), np.int64))
    started.clear()
    for _ in range(2):
        for length in range(1, 80):
            lanes.embed(np.zeros((1, length), np.int64))
            lanes.embed(np.zeros((1, length), np.int64))
    half = len(started) // 2
    assert started[:half] == started[half:]  # the same graph for the same shape
    numbers = [graph for graph in started[:half] if graph != -1]
    assert len(numbers) == len(set(numbers)) == 2 * 63  # one of each lane's 64 was the first's
    assert -1 in started


def test_a_failed_batch_gives_its_lane_back(session: Any) -> None:
    lanes = bind_lanes(session, StandInCard(), captures=True)
    for _ in range(2 * LANES):
        with pytest.raises(Exception, match="pixels"):
            lanes.embed(np.zeros((1, 9, 9, 3), np.uint8))
    assert lanes.embed(draw(3)).shape == (3, 16)


def test_padding_adds_a_third_at_most() -> None:
    assert [pad_size(n) for n in (1, 5, 33, 64, 65, 256, 300)] == [1, 6, 48, 64, 96, 256, 300]
    assert all(pad_size(n) <= max(n + 1, n * 1.5) for n in range(1, SIZES[-1] + 1))
    assert all(pad_size(n) >= n for n in range(1, 400))
