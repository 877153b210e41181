"""Stored images, the order of a run, and the tokens of its captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.family import write_images
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import InputError, NotFoundError
from twinlens.training.config import TrainingSettings
from twinlens.training.data.order import SampleOrder
from twinlens.training.data.pixels import PixelStore, square_spec
from twinlens.training.data.sources import open_source
from twinlens.training.data.tokens import RunTokenizer, provide_tokenizer


def open_store(folder: Path, memory_bytes: float) -> PixelStore:
    store = PixelStore(
        open_source(folder), Preprocessor(square_spec(16)), memory_bytes=memory_bytes
    )
    store.load()
    return store


def spoil(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"this is no image")


@pytest.mark.parametrize("memory_bytes", [0, 1e9])
def test_bad_images_are_left_out_counted_and_named(tmp_path: Path, memory_bytes: float) -> None:
    folder = write_images(tmp_path, 9)
    spoil(folder, "red/000.png", "green/004.png")
    store = open_store(folder, memory_bytes)
    pixels, records = store.fetch(range(len(store)))
    assert pixels.dtype == np.uint8 and pixels.shape[1:] == (16, 16, 3)
    keys = {store.source.records[record].key for record in records}
    assert keys.isdisjoint({"red/000.png", "green/004.png"}) and len(keys) == 7
    assert {store.source.records[bad].key for bad in store.bad} == {"red/000.png", "green/004.png"}
    store.close()


def test_streaming_puts_the_next_good_image_in_place_whatever_came_before(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 9)
    spoil(folder, "red/000.png")
    first, second = open_store(folder, 0), open_store(folder, 0)
    second.fetch([5, 6, 7, 8])
    bad = [record.key for record in first.source.records].index("red/000.png")
    one, _ = first.fetch([bad, 2])
    other, _ = second.fetch([bad, 2])
    assert np.array_equal(one, other)
    first.close()
    second.close()


def test_when_nothing_can_be_decoded_the_error_gives_the_first_reason(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 2)
    spoil(folder, "red/000.png", "green/001.png")
    with pytest.raises(InputError, match=r"none of the 2 images can be decoded; green/001\.png: "):
        open_store(folder, 1e9)


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


def test_a_learned_vocabulary_tells_captions_apart_and_pads_with_zero(tmp_path: Path) -> None:
    settings = TrainingSettings(vocabulary=60, context=12)
    captions = ["a red square", "a blue circle", "a red circle on a blue square"]
    provide_tokenizer(settings, captions, tmp_path)
    tokenizer = RunTokenizer(settings, tmp_path)
    rows = tokenizer.batch(captions)
    assert rows.shape[0] == 3 and rows.max() < tokenizer.size
    assert len({tuple(row) for row in rows.tolist()}) == 3
    assert (rows[:, 0] == 2).all()  # [CLS]: no text is ever empty
    assert rows[0, -1] == 0 and rows[2, -1] != 0


def test_clips_vocabulary_gives_clips_tokens(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    settings = TrainingSettings(tokenizer="clip", context=77)
    provide_tokenizer(settings, [], tmp_path)
    rows = RunTokenizer(settings, tmp_path).batch(["a photo of a cat!"])
    expected = open_clip.tokenizer.SimpleTokenizer()(["a photo of a cat!"]).numpy()
    assert np.array_equal(rows[0], expected[0, : rows.shape[1]])


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"missing\.json.*captions, clip, or"):
        provide_tokenizer(TrainingSettings(tokenizer="missing.json"), [], tmp_path)
