"""Corpora: each form yields the same items, with stable ids."""

from __future__ import annotations

import datetime
import io
import json
import os
import tarfile
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from twinlens.bundle.image.image_source import IMAGE_SUFFIXES
from twinlens.errors import InputError
from twinlens.index.ingest.corpus import open_corpus, read_path
from twinlens.index.ingest.file_names import describe_unsupported
from twinlens.index.storage.records import dump_metadata


def png(colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(out, "PNG")
    return out.getvalue()


IMAGES = {"a.png": png(1), "sub/b.PNG": png(2), "sub/deep/c.jpg": png(3)}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name, raw in IMAGES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)
    (folder / "notes.md").write_text("not an image")
    return folder


def read(source: Path | str, **options: str) -> dict[str, tuple[bytes, dict[str, Any]]]:
    corpus = open_corpus(source, **options)
    entries = list(corpus.entries())
    assert corpus.count in (None, len(entries))
    return {entry.id: (entry.read(), dict(entry.metadata)) for entry in entries}


def test_a_folder_is_read_recursively_with_relative_ids(images: Path) -> None:
    found = read(images)
    assert {name: raw for name, (raw, _) in found.items()} == IMAGES
    assert list(found) == sorted(found)
    assert found["a.png"][1] == {"path": str(images / "a.png")}


def test_a_glob_keeps_ids_relative_to_its_fixed_part(images: Path) -> None:
    assert set(read(f"{images}/sub/*.PNG")) == {"b.PNG"}
    assert set(read(f"{images}/**/*.jpg")) == {"sub/deep/c.jpg"}
    assert set(read(f"{images}/s*/**/*.jpg")) == {"sub/deep/c.jpg"}
    with pytest.raises(InputError, match="matches no file"):
        open_corpus(f"{images}/*.webp")


def test_one_image_is_a_corpus(images: Path) -> None:
    assert set(read(images / "a.png")) == {"a.png"}


def test_a_zip_is_read_with_its_table(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in IMAGES.items():
            archive.writestr(name, raw)
        archive.writestr("index.jsonl", json.dumps({"file": "a.png", "label": "red"}) + "\n")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    corpus = open_corpus(path)
    entries = list(corpus.entries())  # decoders read entries after the scan has ended
    found = {entry.id: (entry.read(), entry.metadata) for entry in entries}
    assert {name: raw for name, (raw, _) in found.items()} == IMAGES
    assert found["a.png"][1] == {"label": "red", "path": f"{path}!a.png"}
    for name, (raw, metadata) in found.items():
        assert read_path(metadata["path"]) == raw, name
    with pytest.raises(OSError, match="gone"):
        read_path(f"{path}!gone")


def test_tar_shards_join_the_members_of_a_sample(tmp_path: Path) -> None:
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard:03}.tar", "w") as archive:
            for name, raw in {
                "x/0001.png": png(shard),
                "x/0001.txt": b" a red square ",
                "x/0001.json": b'{"year": 2020}',
                "x/0002.jpg": png(9),
                "x/0002.cls": b"3",
                "x/0003.txt": b"no image here",
            }.items():
                info = tarfile.TarInfo(name)
                info.size = len(raw)
                archive.addfile(info, io.BytesIO(raw))
    found = read(tmp_path)
    assert list(found) == [f"00{s}.tar/x/000{n}" for s in (0, 1) for n in (1, 2)]
    raw, metadata = found["000.tar/x/0001"]
    assert (raw, read_path(metadata.pop("path"))) == (png(0), png(0))
    assert metadata == {"caption": "a red square", "year": 2020}
    assert found["001.tar/x/0002"][0] == png(9)
    assert found["001.tar/x/0002"][1]["label"] == "3"
    assert set(read(tmp_path / "000.tar")) == {"000.tar/x/0001", "000.tar/x/0002"}


def test_a_csv_gives_typed_metadata(images: Path) -> None:
    table = images / "table.csv"
    table.write_text("sku,file,price,zip,new\n7,a.png,1.5,007,true\n8,sub/b.PNG,,x,false\n")
    found = read(table, id_column="sku")
    assert set(found) == {"7", "8"}
    assert found["7"][0] == IMAGES["a.png"]
    expected = {"sku": 7, "price": 1.5, "zip": "007", "new": True, "path": str(images / "a.png")}
    assert found["7"][1] == expected
    assert found["8"][1]["price"] is None
    assert set(read(table)) == {"a.png", "sub/b.PNG"}
    with pytest.raises(InputError, match="no column 'nope'"):
        open_corpus(table, id_column="nope")


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085", "\x0b", "\x1e"])
def test_a_line_of_json_ends_with_a_newline_alone(images: Path, tmp_path: Path, sign: str) -> None:
    rows = [{"file": "a.png", "caption": f"red{sign}square"}, {"file": "sub/b.PNG"}]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    (images / "t.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    found = read(images / "t.jsonl")
    assert found["a.png"][1]["caption"] == f"red{sign}square"
    assert set(found) == {"a.png", "sub/b.PNG"}
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("a.png", png(1))
        archive.writestr("index.jsonl", lines)
    assert read(tmp_path / "t.zip")["a.png"][1]["caption"] == f"red{sign}square"


def test_parquet_reads_as_csv_does(images: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"image": ["a.png"], "tags": [["x", "y"]]})
    parquet.write_table(table, images / "t.parquet")
    assert read(images / "t.parquet")["a.png"][1]["tags"] == ["x", "y"]


def test_parquet_values_that_json_lacks_become_numbers_and_text(images: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    row = {
        "image": "a.png",
        "price": Decimal("12.50"),
        "count": Decimal("7.00"),
        "raw": b"abc",
        "took": datetime.timedelta(seconds=90),
        "sizes": [Decimal("1.5")],
        "deep": {"price": Decimal("0.25")},
        "day": datetime.date(2026, 1, 2),
    }
    parquet.write_table(pyarrow.Table.from_pylist([row]), images / "t.parquet")
    told = read(images / "t.parquet")["a.png"][1]
    assert (told["price"], told["count"], told["raw"], told["took"]) == (12.5, 7, "abc", 90)
    assert (told["sizes"], told["deep"]) == ([1.5], {"price": 0.25})
    assert '"day":"2026-01-02"' in dump_metadata(told)
    (images / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"bad\.parquet is not a readable Parquet file"):
        open_corpus(images / "bad.parquet")


def test_tables_and_archives_that_cannot_be_read_are_named(images: Path) -> None:
    (images / "t.csv").write_bytes(b"file,label\na.png,caf\xe9\n")
    with pytest.raises(InputError, match=r"t\.csv cannot be read: .* save it as UTF-8"):
        open_corpus(images / "t.csv")
    (images / "t.csv").write_bytes(b"file,label\na.png,x,y\nsub/b.PNG,z\n")
    entries = list(open_corpus(images / "t.csv").entries())
    with pytest.raises(InputError, match="line 2: 1 more cells than the 2 columns"):
        entries[0].read()
    assert entries[1].id == "sub/b.PNG"
    (images / "t.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"t\.zip is not a readable zip"):
        open_corpus(images / "t.zip")
    (images / "t.jsonl").write_text("oops\n")
    with pytest.raises(InputError, match=r"t\.jsonl line 1: not JSON"):
        open_corpus(images / "t.jsonl")


def test_a_source_that_is_not_a_corpus_is_refused(tmp_path: Path, images: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_corpus(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no image"):
        open_corpus(_made(tmp_path / "empty"))
    with pytest.raises(InputError, match="is not a table"):
        open_corpus(images, id_column="x")
    (images / "t.csv").write_text("name,label\nx,y\n")
    with pytest.raises(InputError, match="--path-column"):
        open_corpus(images / "t.csv")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_hidden_files_and_folders_are_skipped(images: Path) -> None:
    for name in ("._a.png", ".thumbnails/a.png", "sub/.b.png"):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).write_bytes(png(9))
    assert set(read(images)) == set(IMAGES)
    archive = images / "all.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for name in ("a.png", "__MACOSX/._a.png", ".cache/a.png"):
            out.writestr(name, png(1))
    assert set(read(archive)) == {"a.png"}


def test_images_of_unsupported_formats_are_reported(images: Path, tmp_path: Path) -> None:
    for name in ("x.svg", "sub/y.SVG", "z.psd", ".hidden.psd"):
        (images / name).write_bytes(b"?")
    corpus = open_corpus(images)
    assert corpus.unsupported == {".svg": 2, ".psd": 1}  # notes.md is not an image
    assert describe_unsupported(corpus.unsupported) == "2 .svg, 1 .psd"
    assert len(list(corpus.entries())) == len(IMAGES)
    alone = _made(tmp_path / "alone")
    (alone / "x.dng").write_bytes(b"?")
    with pytest.raises(InputError, match=r"it holds 1 \.dng: convert them"):
        open_corpus(alone)
    with zipfile.ZipFile(tmp_path / "alone.zip", "w") as out:
        out.writestr("x.jxl", b"?")
    with pytest.raises(InputError, match=r"it holds 1 \.jxl: convert them"):
        open_corpus(tmp_path / "alone.zip")


def test_every_format_that_can_be_decoded_is_listed(tmp_path: Path) -> None:
    names = [f"a{suffix}" for suffix in IMAGE_SUFFIXES] + ["B.HEIC", "c.Tif"]
    for name in names:
        (tmp_path / name).write_bytes(b"?")
    assert set(read(tmp_path)) == set(names)


def test_an_unreadable_folder_stops_the_build_instead_of_deleting_items(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scan(path: str) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(InputError, match="deep cannot be read: Permission denied"):
        open_corpus(images)


def test_links_to_folders_and_broken_links_are_skipped(images: Path) -> None:
    (images / "loop").symlink_to(images, target_is_directory=True)
    (images / "gone.png").symlink_to(images / "nowhere.png")
    (images / "link.png").symlink_to(images / "a.png")
    (images / "folder.png").mkdir()
    assert set(read(images)) == {*IMAGES, "link.png"}
