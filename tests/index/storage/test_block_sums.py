"""A search checks what it reads: blocks of embeddings, and the other files in full."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from twinlens.errors import CollectionError
from twinlens.index import collection
from twinlens.index.collection import Collection
from twinlens.index.storage import block_sums
from twinlens.index.storage.block_sums import BLOCK_BYTES, SUMS_NAME, CheckedBlocks, write_sums
from twinlens.index.storage.column_build import build_columns
from twinlens.index.storage.item_file import encode_items
from twinlens.index.storage.records import checksum, item_checksum
from twinlens.index.storage.segment import EMBEDDINGS_NAME, Content, Segment, write_segment
from twinlens.index.vectors.arrays import RowNumbers
from twinlens.index.writer import Writer, create_collection

DIM = 512
COUNT = 2000
ROWS_PER_BLOCK = BLOCK_BYTES // (2 * DIM)


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    rows = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float16)
    content = Content(
        np.arange(COUNT),
        DIM,
        lambda: iter([rows]),
        lambda: build_columns({} for _ in range(COUNT)),
        lambda: iter([encode_items(np.arange(COUNT), ["i"] * COUNT, ["{}"] * COUNT)]),
    )
    return Segment(tmp_path, write_segment(tmp_path, content), DIM)


def damage(folder: Path, name: str, place: int) -> None:
    path = folder / name
    with path.open("r+b") as handle:
        handle.seek(place)
        (byte,) = handle.read(1)
        handle.seek(place)
        handle.write(bytes([byte ^ 1]))


def offset(row: int, folder: Path) -> int:
    return (folder / EMBEDDINGS_NAME).stat().st_size - 2 * DIM * (COUNT - row)


def places(*rows: int) -> RowNumbers:
    return np.array(rows, np.int64)


def test_only_the_blocks_that_are_read_are_checked(segment: Segment, tmp_path: Path) -> None:
    folder = tmp_path / segment.name
    damage(folder, EMBEDDINGS_NAME, offset(1000, folder))
    segment.verify_rows(places(3, 1500, -1))
    segment.verify_rows(places())
    with pytest.raises(
        CollectionError, match=r"embeddings.npy is damaged: the sha256 of its bytes"
    ):
        segment.verify_rows(places(3, 1000))
    with pytest.raises(CollectionError, match=r"embeddings.npy is damaged"):
        segment.matrix(False)
    with pytest.raises(CollectionError, match=r"embeddings.npy is damaged"):
        segment.verify()


def test_every_byte_of_a_row_is_checked_also_where_it_crosses_two_blocks(
    segment: Segment, tmp_path: Path
) -> None:
    folder = tmp_path / segment.name
    crossing = next(
        row
        for row in range(COUNT)
        if offset(row, folder) // BLOCK_BYTES != (offset(row + 1, folder) - 1) // BLOCK_BYTES
    )
    for place in (offset(crossing, folder), offset(crossing + 1, folder) - 1):
        damage(folder, EMBEDDINGS_NAME, place)
        with pytest.raises(CollectionError, match="damaged"):
            Segment(tmp_path, segment.row, DIM).verify_rows(places(crossing))
        damage(folder, EMBEDDINGS_NAME, place)  # undone
    Segment(tmp_path, segment.row, DIM).verify_rows(places(crossing))


def test_a_damaged_table_of_hashes_is_found_before_it_is_used(
    segment: Segment, tmp_path: Path
) -> None:
    damage(tmp_path / segment.name, SUMS_NAME, 500)
    with pytest.raises(CollectionError, match=rf"{SUMS_NAME} is damaged"):
        segment.verify_rows(places(0))


def test_a_segment_without_a_table_is_checked_in_full(segment: Segment, tmp_path: Path) -> None:
    files = {name: record for name, record in segment.row.files.items() if name != SUMS_NAME}
    row = segment.row.__class__(segment.row.name, COUNT, files)
    Segment(tmp_path, row, DIM).verify_rows(places(3))
    folder = tmp_path / segment.name
    damage(folder, EMBEDDINGS_NAME, offset(1000, folder))
    with pytest.raises(CollectionError, match=r"embeddings.npy is damaged"):
        Segment(tmp_path, row, DIM).verify_rows(places(3))


def test_a_block_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows"
    path.write_bytes(bytes(10 * BLOCK_BYTES + 7))
    write_sums(path)
    sums = np.fromfile(tmp_path / SUMS_NAME, np.uint8)
    blocks = CheckedBlocks(path, np.fromfile(path, np.uint8), sums)
    hashed: list[int] = []

    def digest(block: memoryview) -> bytes:
        hashed.append(len(block))
        return hashlib.sha256(block).digest()

    monkeypatch.setattr(block_sums, "_digest", digest)
    blocks.check(places(0, 5, BLOCK_BYTES - 1), 2)
    assert hashed == [BLOCK_BYTES] * 2
    blocks.check(places(1, BLOCK_BYTES), 100)
    assert len(hashed) == 2
    blocks.check(places(0), 10 * BLOCK_BYTES + 7)  # a row wider than a block
    assert len(hashed) == 11
    assert hashed[-1] == 7


def test_a_reader_that_lives_on_checks_the_rest_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(collection, "CHECK_AFTER", 3)
    create_collection(tmp_path / "c", dim=DIM)
    with Writer(tmp_path / "c") as writer:
        rows = np.random.default_rng(0).standard_normal((300, DIM)).astype(np.float32)
        writer.upsert([f"i{n}" for n in range(300)], rows, [{"n": n} for n in range(300)])
        writer.seal()
    folder = next((tmp_path / "c").glob("seg-*"))
    damage(folder, "columns.bin", 40)  # read by searches with a filter alone
    with Collection(tmp_path / "c") as reader:
        for _ in range(2):
            reader.search(rows[:1], 3)
        assert "damaged" not in caplog.text
        reader.search(rows[:1], 3)
        for thread in threading.enumerate():
            if thread.name == "collection-check":
                thread.join()
        assert "columns.bin is damaged" in caplog.text
        assert len(reader.search(rows[:1], 3)[0]) == 3


def test_the_checksum_of_an_item_is_that_of_its_fields() -> None:
    fields = (7, "photos/ä.jpg", "v\u2028", '{"n": 1}')
    assert item_checksum(*fields) == checksum(*fields)
