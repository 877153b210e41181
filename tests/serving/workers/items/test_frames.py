"""What travels between the processes of a server."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlens.errors import InputError, OverloadedError
from twinlens.serving.workers.items.frames import (
    FrameKind,
    FrameReader,
    ItemRecord,
    Ran,
    read_dropped,
    read_failure,
    read_records,
    read_rows,
    write_dropped,
    write_failure,
    write_frame,
    write_record,
    write_rows,
)

FRAMES = st.lists(st.tuples(st.sampled_from(FrameKind), st.binary(max_size=40)), max_size=8)
NUMBERS = st.integers(0, 2**32 - 1)
RECORDS = st.builds(
    ItemRecord,
    place=NUMBERS,
    tower=st.integers(0, 1),
    priority=st.integers(0, 255),
    deaths=st.integers(0, 2**16 - 1),
    bucket=NUMBERS,
    tokens=st.lists(st.integers(0, 2**40), max_size=5),
    request=st.integers(0, 2**64 - 1),
    deadline=st.floats(0, 1e9),
)


@given(FRAMES, st.lists(st.integers(0, 200), max_size=6))
def test_frames_come_whole_and_in_order_however_the_stream_is_cut(
    frames: list[tuple[FrameKind, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(write_frame(kind, payload) for kind, payload in frames)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader()
    found = []
    for start, end in itertools.pairwise(places):
        found += list(reader.feed(stream[start:end]))
    assert found == frames


@given(st.lists(RECORDS, max_size=5))
def test_items_are_read_as_they_were_written(records: list[ItemRecord]) -> None:
    payload = b"".join(map(write_record, records))
    assert list(read_records(payload)) == records


def test_rows_and_dropped_places_are_read_as_they_were_written() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    ((kind, payload),) = FrameReader().feed(write_rows(Ran(1.5, 2.5, 2, 2), [7, 3], list(rows)))
    found = read_rows(payload, 3)
    assert (kind, found.places, found.ran) == (FrameKind.ROWS, [7, 3], Ran(1.5, 2.5, 2, 2))
    assert np.array_equal(found.rows, rows)
    ((kind, payload),) = FrameReader().feed(write_dropped([4, 9]))
    assert (kind, read_dropped(payload)) == (FrameKind.DROPPED, [4, 9])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("width is 0", field="width"), "width is 0"),
        (OverloadedError("the queue is full"), "the queue is full"),
        (ValueError("a secret of this process"), "the encoder failed on this item"),
    ],
)
def test_an_error_is_sent_without_internals(error: Exception, said: str) -> None:
    ((_, payload),) = FrameReader().feed(write_failure(5, error))
    place, found = read_failure(payload)
    assert (place, str(found)) == (5, said)
    assert type(found).__name__ == (
        "EncodeError" if isinstance(error, ValueError) else type(error).__name__
    )
    assert getattr(found, "field", None) == getattr(error, "field", None)
