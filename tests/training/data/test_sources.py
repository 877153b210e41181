"""Every kind of source gives the same records, and reads the bytes that it lists."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.family import write_images
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import InputError, NotFoundError
from twinlens.training.data.pixels import PixelStore, square_spec
from twinlens.training.data.records import DataSource, fingerprint
from twinlens.training.data.sources import open_source


def listed(folder: Path) -> list[dict[str, str]]:
    return [
        {
            "file": path.relative_to(folder).as_posix(),
            "cls": path.parent.name,
            "caption": path.with_suffix(".txt").read_text().strip(),
        }
        for path in sorted(folder.rglob("*.png"))
    ]


def as_folder(folder: Path, out: Path) -> str:
    return str(folder)


def as_zip(folder: Path, out: Path) -> str:
    with zipfile.ZipFile(out / "data.zip", "w") as file:
        rows = listed(folder)
        for row in rows:
            file.write(folder / row["file"], row["file"])
        file.writestr("index.jsonl", "\n".join(map(json.dumps, rows)))
    return str(out / "data.zip")


def as_csv(folder: Path, out: Path) -> str:
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "cls", "caption"])
        writer.writeheader()
        writer.writerows(listed(folder))
    return str(folder / "table.csv")


def as_parquet(folder: Path, out: Path) -> str:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(listed(folder)), folder / "table.parquet")
    return str(folder / "table.parquet")


def as_tars(folder: Path, out: Path) -> str:
    rows = listed(folder)
    for shard in range(2):
        with tarfile.open(out / f"shard-{shard}.tar", "w") as tar:
            for number, row in enumerate(rows[shard::2]):
                stem = f"{shard}{number:04}"
                add(tar, f"{stem}.png", (folder / row["file"]).read_bytes())
                add(tar, f"{stem}.txt", row["caption"].encode())
                add(tar, f"{stem}.json", json.dumps({"cls": row["cls"]}).encode())
    return str(out / "shard-*.tar")


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


KINDS = [as_folder, as_zip, as_csv, as_parquet, as_tars]


def contents(source: DataSource) -> set[tuple[str | None, tuple[str, ...], bytes]]:
    return {
        (record.label, record.captions, source.read(index))
        for index, record in enumerate(source.records)
    }


@pytest.mark.parametrize("write", KINDS)
def test_every_kind_reads_the_same(write: Callable[[Path, Path], str], tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 7)
    (tmp_path / "out").mkdir()
    expected = contents(open_source(folder))
    assert len(expected) == 7
    assert contents(open_source(write(folder, tmp_path / "out"))) == expected


@pytest.mark.parametrize("write", KINDS)
def test_sizes_are_those_of_the_bytes(write: Callable[[Path, Path], str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    source = open_source(write(write_images(tmp_path / "images", 5), tmp_path / "out"))
    assert all(
        record.size == len(source.read(index)) for index, record in enumerate(source.records)
    )


def test_a_folder_of_tars_is_shards(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    as_tars(write_images(tmp_path / "images", 6), tmp_path / "out")
    assert len(open_source(tmp_path / "out").records) == 6


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 3)
    flat = open_source(folder / "red")
    assert [record.label for record in flat.records] == [None]


@pytest.mark.parametrize("format", ["tif", "avif", "heic", "bmp", "gif", "webp"])
def test_every_listed_format_is_decoded_from_folders_and_tars(tmp_path: Path, format: str) -> None:
    image, path = Image.new("RGB", (40, 30), (200, 30, 30)), tmp_path / "red" / f"a.{format}"
    path.parent.mkdir()
    if format == "heic":
        pytest.importorskip("pillow_heif").from_pillow(image).save(path, quality=90)
    else:
        image.save(path)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(path, f"0001.{format}")
    for where in (tmp_path / "red", tmp_path / "a.tar"):
        store = PixelStore(open_source(where), Preprocessor(square_spec(16)), memory_bytes=0)
        pixels, _ = store.fetch([0])
        store.close()
        assert np.abs(pixels[0].astype(int) - (200, 30, 30)).max() < 12


def test_several_captions_a_row_are_kept(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 1)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as file:
        file.write(folder / "red/000.png", "a.png")
        row = {"file": "a.png", "captions": ["one", "two"], "label": 3}
        file.writestr("index.jsonl", json.dumps(row))
    (record,) = open_source(tmp_path / "data.zip").records
    assert record.captions == ("one", "two") and record.label == "3"


def test_the_fingerprint_depends_on_names_sizes_labels_and_captions(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 4)
    before = fingerprint(open_source(folder).records)
    assert before == fingerprint(open_source(folder).records)
    (folder / "red/000.txt").write_text("another caption")
    after = fingerprint(open_source(folder).records)
    assert after != before
    (folder / "green/001.png").rename(folder / "green/009.png")
    assert fingerprint(open_source(folder).records) not in (before, after)


def test_what_cannot_be_data_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere does not exist"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no images; expected an image folder"):
        open_source(tmp_path)
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="is not a zip file"):
        open_source(tmp_path / "x.zip")
    (tmp_path / "x.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(InputError, match="is not an uncompressed tar"):
        open_source(tmp_path / "x.tar")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no path among the columns a, b; name one of file"):
        open_source(tmp_path / "x.csv")
    (tmp_path / "x.xml").write_text("<a/>")
    with pytest.raises(InputError, match="not readable data"):
        open_source(tmp_path / "x.xml")
