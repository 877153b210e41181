"""Batches take the size that was measured here; several devices share them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bundle.engine.card import StandInCard
from twinlens.bundle import session, tower
from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.bundle.engine import cuda_session, onnxruntime_session
from twinlens.bundle.engine.batch_curve import BatchCurve
from twinlens.bundle.engine.cuda_session import CudaSession, list_options
from twinlens.bundle.engine.onnxruntime_session import OnnxRuntimeSession
from twinlens.bundle.engine.record import BATCH_FILE, read_curve, write_curve
from twinlens.bundle.session import Runtime
from twinlens.errors import DeviceError, InputError

Make = Callable[..., Path]


def draw(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """A machine whose knee is 24, and a count of measurements."""
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path))
    counts: list[int] = []

    def measure(run: Callable[[int], object], **_: object) -> BatchCurve:
        run(2)
        counts.append(1)
        return BatchCurve(((1, 1.0), (24, 2.0), (48, 4.0)))

    monkeypatch.setattr(tower, "measure_curve", measure)
    return counts


def watch_batches(encoder: Encoder, name: str) -> list[int]:
    """Return a list that grows by the size of each batch."""
    sizes: list[int] = []
    graph = encoder._towers[name].graph
    embed = graph.embed

    def note(name: str, items: Sequence[Any]) -> Any:
        sizes.append(len(items))
        return embed(name, items)

    graph.embed = note  # type: ignore[method-assign, assignment]
    return sizes


def test_many_items_go_in_batches_of_the_measured_size(
    toy_bundle: Path, measured: list[int]
) -> None:
    encoder = open_bundle(toy_bundle, engine="onnxruntime")
    images, texts = watch_batches(encoder, "image"), watch_batches(encoder, "text")
    expected = np.concatenate([encoder.encode_pixels(draw(60)[i : i + 1]) for i in range(60)])
    images.clear()
    np.testing.assert_allclose(encoder.encode_pixels(draw(60)), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_pixels(list(draw(60))), expected, atol=1e-6)
    assert images == [2, 24, 24, 12, 24, 24, 12]  # the first is the measurement's
    encoder.embed_texts(["red"] * 30 + ["a red square"] * 20)
    assert texts == [2, 24, 24, 2]
    assert (encoder.batch_size("image"), encoder.batch_size("text")) == (24, 24)
    assert len(measured) == 2


def test_a_few_items_are_not_worth_a_measurement(toy_bundle: Path, measured: list[int]) -> None:
    encoder = open_bundle(toy_bundle, engine="onnxruntime")
    images = watch_batches(encoder, "image")
    assert encoder.encode_pixels(draw(32)).shape == (32, 16)
    encoder.embed_texts(["red"] * 32)
    assert images == [32] and measured == []


def test_a_second_encoder_on_the_machine_does_not_measure(
    toy_bundle: Path, measured: list[int], tmp_path: Path
) -> None:
    assert open_bundle(toy_bundle, engine="onnxruntime").batch_size("image") == 24
    assert open_bundle(toy_bundle, engine="onnxruntime").batch_size("image") == 24
    assert len(measured) == 1
    assert (tmp_path / BATCH_FILE).is_file()
    # Another number of threads is another measurement; so is a lost record.
    assert open_bundle(toy_bundle, engine="onnxruntime", threads=7).batch_size("image") == 24
    (tmp_path / BATCH_FILE).write_text("{broken")
    assert open_bundle(toy_bundle, engine="onnxruntime").batch_size("image") == 24
    assert len(measured) == 3


@pytest.mark.parametrize(("used", "is_kept"), [(0.1, False), (0.9, True)])
def test_what_a_machine_with_other_work_measured_is_not_kept(
    toy_bundle: Path,
    measured: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    used: float,
    is_kept: bool,
) -> None:
    encoder = open_bundle(toy_bundle, engine="onnxruntime")
    walls, spent = itertools.count(step=1.0), itertools.count(step=used)
    monkeypatch.setattr(time, "perf_counter", lambda: next(walls))
    monkeypatch.setattr(time, "process_time", lambda: next(spent))
    assert encoder.batch_size("image") == 24
    assert (tmp_path / BATCH_FILE).is_file() == is_kept
    assert encoder.batch_size("image") == 24 and len(measured) == 1


def test_threads_that_ask_at_once_measure_once(toy_bundle: Path, measured: list[int]) -> None:
    encoder = open_bundle(toy_bundle, engine="onnxruntime")
    threads = [threading.Thread(target=encoder.encode_pixels, args=(draw(50),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(measured) == 1


def test_a_curve_that_makes_no_sense_is_measured_again(
    toy_bundle: Path, measured: list[int], tmp_path: Path
) -> None:
    subject = tower.find_tower_file(
        toy_bundle, open_bundle(toy_bundle).manifest, "image", "fp32"
    ).describe(Runtime(), "onnxruntime")
    write_curve(subject, BatchCurve(((1, 0.5), (2, 0.6))))
    assert read_curve(subject) == BatchCurve(((1, 0.5), (2, 0.6)))
    path = tmp_path / BATCH_FILE
    path.write_text(path.read_text().replace("0.5", "-0.5"))
    assert read_curve(subject) is None


class Cards:
    """Stand-ins for two cards, on which ONNX Runtime's CPU provider works."""

    def __init__(self) -> None:
        self.opened: dict[int, list[StandInCard]] = {0: [], 1: []}
        self.options: list[dict[str, str]] = []
        self.refuses_graphs = False

    def open(self, number: int) -> StandInCard:
        card = StandInCard()
        self.opened[number].append(card)
        return card


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    """A machine with two cards, as far as a CPU can be them."""
    found = Cards()
    real = onnxruntime_session._open_session

    def open_session(path: Path, device: str, threads: int | None, options: Any) -> Any:
        if options is not None:
            found.options.append(dict(options))
            if found.refuses_graphs and options["enable_cuda_graph"] == "1":
                raise RuntimeError("This session cannot use the CUDA graph feature as requested")
        return real(path, "cpu", threads, None)

    monkeypatch.setattr(onnxruntime_session, "_open_session", open_session)
    monkeypatch.setattr(cuda_session, "CudaMemory", found.open)
    for module in (session, onnxruntime_session):
        monkeypatch.setattr(module, "choose_device", lambda device: device)
    monkeypatch.setattr(onnxruntime_session, "name_card", lambda number: "stand-in")
    return found


def test_a_tower_runs_on_every_card_in_turn(
    toy_bundle: Path, measured: list[int], cards: Cards
) -> None:
    encoder = open_bundle(toy_bundle, device="cuda:0,cuda:1", engine="onnxruntime")
    plain = open_bundle(toy_bundle, device="cpu", engine="onnxruntime")
    assert encoder.in_flight("image") == 4 and plain.in_flight("image") == 1
    pixels = draw(240)
    for _ in range(2):
        np.testing.assert_allclose(
            encoder.encode_pixels(pixels), plain.encode_pixels(pixels), atol=1e-6
        )
    counts = [len(card.uploads) for both in cards.opened.values() for card in both]
    assert len(counts) == 4 and min(counts[0], counts[2]) > 5  # the image tower's 22
    encoder.check()


def test_the_memory_of_each_card_is_bounded(toy_bundle: Path, cards: Cards) -> None:
    open_bundle(toy_bundle, device="cuda:0", engine="onnxruntime", device_memory=1.5)
    assert {options["gpu_mem_limit"] for options in cards.options} == {str(3 << 29)}
    assert {options["enable_cuda_graph"] for options in cards.options} == {"1"}
    assert "gpu_mem_limit" not in list_options(StandInCard(), None, captures=True)
    with pytest.raises(InputError, match="device memory is -1 GiB"):
        Runtime("cuda:0", memory_limit=-1)


def test_a_tower_runs_without_graphs_where_they_are_refused(toy_bundle: Path, cards: Cards) -> None:
    cards.refuses_graphs = True
    encoder = open_bundle(toy_bundle, device="cuda:0", engine="onnxruntime")
    assert [tower.graph.captures for tower in encoder._towers.values()] == [False, False]
    encoder.check()


def test_warming_up_runs_each_size_on_each_lane(
    toy_bundle: Path, measured: list[int], cards: Cards
) -> None:
    encoder = open_bundle(toy_bundle, device="cuda:0,cuda:1", engine="onnxruntime")
    images = watch_batches(encoder, "image")
    encoder.warm_up()
    assert images[1:] == [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24) for _ in range(4)]


def test_a_full_card_is_told_and_smaller_batches_go_on(toy_bundle: Path, cards: Cards) -> None:
    encoder = open_bundle(toy_bundle, device="cuda:0", engine="onnxruntime")
    cards.opened[0][0].room = 10_000
    image = encoder._towers["image"]
    with pytest.raises(DeviceError, match="cuda:0 has no memory left") as caught:
        image.encode_batch(draw(250))
    assert caught.value.kind == "full"
    assert image.encode_batch(draw(20)).shape == (20, 16)


def test_a_lost_card_says_so_at_every_later_batch(
    toy_bundle: Path, cards: Cards, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = CudaSession(toy_bundle / "image.onnx", "cuda:0", 1)
    card = cards.opened[0][0]

    def fail(mark: int) -> None:
        raise RuntimeError("CUDA driver error 719: it could not wait for the device")

    monkeypatch.setattr(card, "wait", fail)
    for _ in range(2):
        with pytest.raises(DeviceError, match="cannot be used by this process any more") as caught:
            opened.embed("pixels", draw(2))
        assert caught.value.kind == "lost"
    monkeypatch.setattr(card, "wait", lambda mark: None)
    with pytest.raises(DeviceError):
        opened.embed("pixels", draw(2))


def test_a_wrong_input_is_no_fault_of_the_card(toy_bundle: Path, cards: Cards) -> None:
    opened = CudaSession(toy_bundle / "image.onnx", "cuda:0", 1)
    with pytest.raises(Exception, match="pixels") as caught:
        opened.embed("pixels", np.zeros((1, 9, 9, 3), np.uint8))
    assert not isinstance(caught.value, DeviceError)
    assert opened.embed("pixels", draw(2)).shape == (2, 16)
    assert isinstance(opened, OnnxRuntimeSession)
