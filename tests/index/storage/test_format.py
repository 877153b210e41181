"""Collections of earlier versions open, and later versions may add what this one does not know."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pytest

from twinlens.errors import CollectionError
from twinlens.index.ann.recall import MEASURED, STALE
from twinlens.index.collection import Collection
from twinlens.index.maintenance import IndexPlan, optimise, repeat_plan
from twinlens.index.stats import report_recall
from twinlens.index.storage.commit_record import RECORD_NAME
from twinlens.index.storage.records import checksum
from twinlens.index.storage.transaction import RECORD_PROMISE
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer

OLD = Path(__file__).parent / "format_1/collection.zip"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a collection that version 0.1 wrote."""
    with zipfile.ZipFile(OLD) as archive:
        archive.extractall(tmp_path / "old")
    return tmp_path / "old"


def test_a_collection_of_0_1_is_searched_and_verified_as_it_is(old: Path) -> None:
    rows = np.random.default_rng(11).standard_normal((2120, 4)).astype(np.float32)
    assert verify_collection(old).is_sound
    assert not (old / RECORD_NAME).exists()
    with Collection(old) as reader:
        assert reader.count() == 2117
        assert reader.search(rows[7], 1)[0][0].id == "i7"
        assert reader.search(rows[2105], 1, filter="fresh = true")[0][0].id == "d5"
        assert "i3" not in {hit.id for hit in reader.search(rows[3], 20)[0]}
        assert reader.catalog.extensions() == {}
        part = reader.snapshot().parts[0]
        assert part.ann_index is not None
        assert part.ann_index.tuning.confidence == 0.95
        assert report_recall(reader.snapshot())["text"].state == MEASURED


def test_a_collection_of_0_1_is_written_to_and_gains_what_is_new(old: Path) -> None:
    with Writer(old) as writer:
        assert repeat_plan(writer.collection.snapshot()).target == 0.9
        writer.delete([f"i{n}" for n in range(10, 40)])
        assert report_recall(writer.collection.snapshot())["text"].state == STALE
        assert RECORD_PROMISE in writer.catalog.extensions()
        assert writer.catalog.head().format == 1  # version 0.1 still opens it
        writer.compact(full=True)
        assert writer.catalog.head().format == 2
        assert list(writer.folder.glob("seg-*/columns.bin"))
        assert not list(writer.folder.glob("seg-*/columns.npz"))
        assert writer.collection.count("fresh = true") == 19
    assert verify_collection(old).is_sound
    assert (old / RECORD_NAME).exists()
    with Collection(old) as reader:
        assert reader.count() == 2087


def test_a_flipped_byte_of_any_file_is_found(old: Path) -> None:
    """Bytes of `catalog.sqlite` itself are flipped in `test_crash`, those of the log elsewhere."""
    with Writer(old) as writer:
        optimise(writer, IndexPlan("hnsw", 0.9))
    rng = np.random.default_rng(2)
    names = {"columns.npz", "columns.bin", "embeddings.npy", "rids.npy", "index.faiss", "space.npz"}
    names |= {"answers.npz", RECORD_NAME}
    paths = [path for path in old.rglob("*") if path.name in names]
    assert {path.name for path in paths} == names
    for path in paths:
        raw = path.read_bytes()
        for at in rng.integers(0, len(raw), 12).tolist():
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :])
            assert not verify_collection(old).is_sound, (path.name, at)
        path.write_bytes(raw)
    assert verify_collection(old).is_sound


def change_body(folder: Path, table: str, key: str, body: dict[str, object]) -> None:
    """Replace a body of the catalog as a later version might."""
    db = sqlite3.connect(folder / "catalog.sqlite")
    text = json.dumps(body)
    if table == "head":
        db.execute("UPDATE head SET body = ?, crc = ?", (text, checksum(text)))
    else:
        crc = checksum(key, text)
        db.execute(f"UPDATE {table} SET body = ?, crc = ? WHERE name = ?", (text, crc, key))
    db.commit()
    db.close()


def read_body(folder: Path, table: str) -> tuple[str, dict[str, object]]:
    db = sqlite3.connect(folder / "catalog.sqlite")
    name = "''" if table == "head" else "name"
    key, body = db.execute(f"SELECT {name}, body FROM {table}").fetchone()
    db.close()
    return key, json.loads(body)


@pytest.mark.parametrize("table", ["head", "segments"])
def test_fields_of_later_versions_are_passed_over(old: Path, table: str) -> None:
    key, body = read_body(old, table)
    index = body.get("index")
    if isinstance(index, dict):
        index["layout"] = "later"
        index["tuning"]["recall"]["text"]["later"] = index["tuning"]["params"]["later"] = 1
    change_body(old, table, key, {**body, "later": {"a": 1}})
    with Writer(old) as writer:
        assert len(writer.collection.search(np.ones(4), 3)[0]) == 3
        writer.upsert(["new"], np.ones((1, 4)))
    assert verify_collection(old).is_sound
    assert read_body(old, table)[1]["later"] == {"a": 1}  # and kept


def test_extensions_are_kept_by_who_does_not_know_them(old: Path) -> None:
    with Writer(old) as writer:
        with writer.catalog.writing() as transaction:
            transaction.extend("layout", {"of": "a later version"})
        with writer.catalog.writing() as transaction:
            transaction.extend("calibration", [1, 2])
        writer.compact()
    with Collection(old) as reader:
        told = reader.catalog.extensions()
        assert told["layout"] == {"of": "a later version"}
        assert told["calibration"] == [1, 2]


def test_a_format_that_is_not_additive_is_still_refused(old: Path) -> None:
    _, body = read_body(old, "head")
    change_body(old, "head", "", {**body, "format": 3})
    with pytest.raises(CollectionError, match="format 3 is unknown"):
        Collection(old)
