"""Kept listings: the same records, read again while the data are as they were."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from tests.training.data.test_sources import as_tars, contents
from tests.training.family import write_images
from twinlens.training.data import folder as folders
from twinlens.training.data import tars
from twinlens.training.data.listing import kept
from twinlens.training.data.listing.columns import gather_columns, join_columns, read_columns
from twinlens.training.data.records import Record
from twinlens.training.data.sources import open_source

RECORDS = [
    Record("a/1.jpg", 10, "a", ("one", "two"), ("not one",)),
    Record("a/2.jpg", 20, None),
    Record("b/3.jpg", 30, "b", ("drei",)),
]


@pytest.fixture(autouse=True)
def _keep_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "LEAST", 1)


def test_columns_give_back_their_records(tmp_path: Path) -> None:
    columns = gather_columns(RECORDS, [(0, 1), (2, 3), (4, 5)])
    (tmp_path / "c.npz").write_bytes(columns.to_bytes({"size": 3}))
    again = read_columns(tmp_path / "c.npz", {"size": 3})
    assert again is not None and list(again) == list(columns) == RECORDS
    assert [again[i] for i in range(3)] == RECORDS and again[-1] == RECORDS[-1]
    assert again[1:] == RECORDS[1:] and again.places.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert read_columns(tmp_path / "c.npz", {"size": 4}) is None
    both = join_columns([columns, gather_columns(RECORDS[::-1], [(0, 0)] * 3)])
    assert list(both) == RECORDS + RECORDS[::-1]


def test_a_torn_listing_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_bytes(gather_columns(RECORDS).to_bytes(0)[:200])
    assert read_columns(tmp_path / "c.npz", 0) is None


def test_tars_are_scanned_once_and_again_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    where = as_tars(write_images(tmp_path / "images", 6), tmp_path / "out")
    first = contents(open_source(where))
    scans: list[str] = []
    scan = tars.TarSource._scan

    def count(self: tars.TarSource, path: str) -> object:
        scans.append(path)
        return scan(self, path)

    monkeypatch.setattr(tars.TarSource, "_scan", count)
    assert contents(open_source(where)) == first and scans == []
    os.utime(tmp_path / "out/shard-1.tar", ns=(1, 1))
    assert contents(open_source(where)) == first
    assert scans == [str(tmp_path / "out/shard-1.tar")]


def test_a_folder_is_walked_once_and_again_when_a_file_joins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images(tmp_path / "images", 6)
    first = contents(open_source(folder))
    walks: list[str] = []
    scan = folders._scan

    def count(root: str) -> list[tuple[str, int, bool]]:
        walks.append(root)
        return scan(root)

    monkeypatch.setattr(folders, "_scan", count)
    assert contents(open_source(folder)) == first and walks == []
    (folder / "red/000.png").rename(folder / "red/zzz.png")
    keys = [record.key for record in open_source(folder).records]
    assert walks and len(keys) == 6 and "red/zzz.png" in keys and "red/000.png" not in keys


def test_a_damaged_shard_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    where = as_tars(write_images(tmp_path / "images", 8), tmp_path / "out")
    whole = len(open_source(where).records)
    shard = tmp_path / "out/shard-1.tar"
    with tarfile.open(shard) as tar:
        second = sorted(member.offset for member in tar if member.name.endswith(".png"))[1]
    shard.write_bytes(shard.read_bytes()[:second] + b"x" * 600)
    (tmp_path / "out/shard-2.tar").write_bytes(b"no tar" * 200)
    for _ in range(2):  # what is damaged is not kept, so that it is told again
        source = open_source(where)
        assert isinstance(source, tars.TarSource)
        assert sorted(Path(path).name for path in source.damage) == ["shard-1.tar", "shard-2.tar"]
        assert len(source.records) == whole // 2 + 1
        assert all(source.read(index) for index in range(len(source.records)))
