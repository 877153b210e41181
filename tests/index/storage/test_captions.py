"""The caption index follows every commit, survives kills, and catches up with older versions."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinlens.bundle.arrays import Rows
from twinlens.errors import CollectionError, LockedError
from twinlens.index.collection import Collection
from twinlens.index.storage import captions
from twinlens.index.storage.caption_build import (
    build_captions,
    is_complete,
    match_captions,
    require_captions,
)
from twinlens.index.storage.records import checksum
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer

Make = Callable[[int], Rows]


def find(collection: Collection, text: str) -> list[str]:
    found = match_captions(collection.catalog, text, 100)
    items = collection.catalog.by_rid([rid for rid, _ in found])
    return [items[rid].id for rid, _ in found]


def write(writer: Writer, rows: Make, texts: Sequence[str], prefix: str = "i") -> None:
    metadata: list[dict[str, Any]] = [{"caption": text} for text in texts]
    names = [f"{prefix}{n}" for n in range(len(texts))]
    writer.upsert(names, rows(len(texts)), metadata)


TEXTS = [
    "a red bicycle",
    "two bicycles at the sea",
    "the sea",
    "ein Fahrrad am Meer",
    "海辺の自転車",
]


def test_captions_are_found_by_any_word_the_rarest_first(writer: Writer, rows: Make) -> None:
    write(writer, rows, TEXTS)
    writer.index_captions()
    assert find(writer.collection, "the red bicycle") == ["i0", "i1", "i2"]
    assert find(writer.collection, "MÉER") == ["i3"]
    assert find(writer.collection, "自転車") == ["i4"]
    assert find(writer.collection, 'NEAR("quoted" OR *') == []
    assert find(writer.collection, "?!") == []


def test_every_commit_keeps_the_index_in_step(writer: Writer, rows: Make) -> None:
    write(writer, rows, TEXTS)
    writer.index_captions()
    writer.upsert(["i0", "new"], rows(2), [{"caption": "a boat"}, {"tags": ["sea", "boat"]}])
    assert find(writer.collection, "red") == []
    assert sorted(find(writer.collection, "boat")) == ["i0", "new"]
    writer.delete(["i1", "new"])
    assert find(writer.collection, "sea") == ["i2"]
    write(writer, rows, [f"word{n} shared" for n in range(60)], "bulk")  # written as a segment
    assert len(find(writer.collection, "shared")) == 60
    writer.compact()
    assert is_complete(writer.catalog)
    assert find(writer.collection, "word7") == ["bulk7"]
    assert verify_collection(writer.folder).is_sound


def test_the_index_equals_one_that_is_built_at_the_end(
    writer: Writer, rows: Make, rng: np.random.Generator
) -> None:
    """Deletions leave nothing behind that changes a score."""
    writer.index_captions()
    for step in range(12):
        words = rng.integers(0, 9, (10, 3))
        texts = [" ".join(f"w{word}" for word in row) for row in words]
        write(writer, rows, texts, prefix=f"{'abc'[step % 3]}")
        writer.delete([f"a{n}" for n in rng.integers(0, 10, 3)])
    kept = [match_captions(writer.catalog, f"w{word}", 100) for word in range(9)]
    with writer.catalog.writing() as transaction:
        transaction.captions.start(["caption"])
    build_captions(writer.catalog)
    assert [match_captions(writer.catalog, f"w{word}", 100) for word in range(9)] == kept


def test_other_fields_are_indexed_on_request(writer: Writer, rows: Make) -> None:
    writer.upsert(["x"], rows(1), [{"caption": "red", "note": "blue"}])
    writer.index_captions()
    assert (find(writer.collection, "red"), find(writer.collection, "blue")) == (["x"], [])
    writer.index_captions(["note"])
    assert (find(writer.collection, "red"), find(writer.collection, "blue")) == ([], ["x"])


def test_a_reader_builds_the_index_unless_another_process_writes(folder: Path, rows: Make) -> None:
    with Writer(folder) as writer:
        write(writer, rows, TEXTS)
        with Collection(folder) as reader:
            with pytest.raises(LockedError, match=r"captions of .* are not indexed"):
                require_captions(folder, reader.catalog)
            writer.index_captions()
            require_captions(folder, reader.catalog)
            assert find(reader, "red") == ["i0"]
    with Writer(folder) as writer:
        assert is_complete(writer.catalog)


def test_a_collection_of_0_1_gets_an_index(tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parent / "format_1/collection.zip") as archive:
        archive.extractall(tmp_path / "old")
    with Collection(tmp_path / "old") as reader:
        require_captions(tmp_path / "old", reader.catalog)
        assert is_complete(reader.catalog)
    assert verify_collection(tmp_path / "old").is_sound


def test_items_that_an_older_version_wrote_are_caught_up_with(folder: Path, rows: Make) -> None:
    """Older versions keep the state in the head and do not know the table."""
    with Writer(folder) as writer:
        write(writer, rows, TEXTS)
        writer.index_captions()
    db = sqlite3.connect(folder / "catalog.sqlite", isolation_level=None)
    head = json.loads(db.execute("SELECT body FROM head").fetchone()[0])
    row = (head["next_rid"], "older", "", '{"caption":"a red kite"}')
    db.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?)", (*row, checksum(*row)))
    embedding = rows(1).astype(np.float16).tobytes()
    delta = (head["next_rid"], embedding, checksum(head["next_rid"], embedding))
    db.execute("INSERT INTO delta VALUES (?, ?, ?)", delta)
    db.execute("DELETE FROM items WHERE id = 'i0'")
    body = json.dumps({**head, "next_rid": head["next_rid"] + 1})
    db.execute("UPDATE head SET body = ?, crc = ?", (body, checksum(body)))
    db.close()
    with Writer(folder) as writer:
        assert not is_complete(writer.catalog)
        write(writer, rows, ["a red boat"], "new")
        writer.index_captions()
        assert sorted(find(writer.collection, "red")) == ["new0", "older"]


_BUILD = """
import sys
from twinlens.index.storage import captions
from twinlens.index.writer import Writer
captions.BATCH = 3
with Writer({folder!r}) as writer:
    real = writer.catalog.writing
    print("ready", flush=True)
    writer.index_captions()
"""


def test_a_killed_build_goes_on_where_it_stopped(
    folder: Path, rows: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writer(folder) as writer:
        write(writer, rows, [f"word{n} all" for n in range(400)])
    process = subprocess.Popen(
        [sys.executable, "-c", _BUILD.format(folder=str(folder))], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with Collection(folder) as reader:
        while captions.CaptionState.read(reader.catalog.raw_head()) is None:
            pass
        process.kill()
        process.wait()
        process.stdout.close()
        assert not is_complete(reader.catalog)
        require_captions(folder, reader.catalog)
        assert len(match_captions(reader.catalog, "all", 1000)) == 400
        assert find(reader, "word399") == ["i399"]
    assert verify_collection(folder).is_sound


def test_a_damaged_index_blocks_no_write_and_is_built_again(
    folder: Path, rows: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with Writer(folder) as writer:
        write(writer, rows, TEXTS)
        writer.index_captions()
    db = sqlite3.connect(folder / "catalog.sqlite", isolation_level=None)
    db.execute("UPDATE captions_data SET block = x'deadbeefdeadbeef'")
    db.close()
    with Writer(folder) as writer:
        with pytest.raises(CollectionError, match="--rebuild"):
            find(writer.collection, "red")
        writer.delete(["i0"])
        write(writer, rows, ["a red boat"], "new")
        assert writer.collection.count() == len(TEXTS)
        assert not is_complete(writer.catalog)
        assert "will be built again" in caplog.text
        writer.index_captions()
        assert find(writer.collection, "red") == ["new0"]
        with writer.catalog.writing() as transaction:
            transaction.captions.start(["nothing"])
        writer.index_captions(["caption"], rebuild=True)
        assert find(writer.collection, "red") == ["new0"]
    assert verify_collection(folder).is_sound
