"""The offline indexer: incremental, tolerant of bad files, and resumable after kill -9."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.bundle.image.test_exif import EXPECTED, jpeg
from twinlens.errors import InputError, MissingDependencyError
from twinlens.index.collection import Collection
from twinlens.index.ingest import intake
from twinlens.index.ingest.builder import BuildOptions, build
from twinlens.index.ingest.corpus import open_corpus
from twinlens.index.ingest.intake import IndexingProgress
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer, create_collection

DIM = 12


class PixelEncoder:
    """Embeds an image as its own 2x2 pixels; counts the calls."""

    def __init__(self) -> None:
        self.encoded = 0

    def preprocess(self, image: bytes) -> npt.NDArray[np.uint8]:
        with Image.open(io.BytesIO(image)) as opened:
            return np.asarray(opened.convert("RGB").resize((2, 2)), dtype=np.uint8)

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.encoded += len(pixels)
        rows = pixels.reshape(len(pixels), -1).astype(np.float32) + 1
        unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def paint(folder: Path, names: list[str], seed: int = 0) -> None:
    """Write an image of random colours for each name."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for name in names:
        pixels = rng.integers(0, 255, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    paint(folder, [f"{n:03}.png" for n in range(50)])
    return folder


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    create_collection(tmp_path / "c", dim=DIM)
    with Writer(tmp_path / "c", seal_rows=30) as opened:
        yield opened


def run(
    writer: Writer, source: Path, keep: bool = False, max_delete: str | None = None
) -> tuple[IndexingProgress, int]:
    encoder = PixelEncoder()
    options = BuildOptions(batch=4, workers=2, keep=keep, max_delete=max_delete)
    return build(writer, open_corpus(source), encoder, options), encoder.encoded


def build_with(writer: Writer, source: Path, **options: Any) -> tuple[IndexingProgress, int]:
    encoder = PixelEncoder()
    return build(writer, open_corpus(source), encoder, BuildOptions(**options)), encoder.encoded


def ids_of(writer: Writer) -> set[str]:
    """Return the ids of all items."""
    return {item.id for item in writer.catalog.items()}


def contents(writer: Writer) -> dict[str, str]:
    """Return what each item was made from, without the stamp of its file."""
    return {item.id: item.version[:49] for item in writer.catalog.items()}


def described(writer: Writer) -> dict[str, dict[str, Any]]:
    """Return the metadata of all items, without their paths."""
    return {
        name: {k: v for k, v in writer.collection.get(name).metadata.items() if k != "path"}
        for name in ids_of(writer)
    }


def test_exif_of_photographs_becomes_metadata_and_can_be_left_out(
    writer: Writer, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    paint(photos, ["plain.png"])
    (photos / "paris.jpg").write_bytes(jpeg())
    assert build_with(writer, photos)[1] == 2
    assert described(writer) == {"plain.png": {}, "paris.jpg": EXPECTED}
    progress, encoded = build_with(writer, photos)
    assert (progress.unchanged, encoded) == (2, 0)
    _, encoded = build_with(writer, photos, place=False)
    assert (encoded, set(described(writer)["paris.jpg"])) == (0, {"taken", "camera", "lens"})
    _, encoded = build_with(writer, photos, exif=False)
    assert (encoded, described(writer)["paris.jpg"]) == (0, {})


def test_the_columns_of_a_table_win_over_exif_which_is_added_on_request(
    writer: Writer, tmp_path: Path
) -> None:
    (tmp_path / "paris.jpg").write_bytes(jpeg())
    table = tmp_path / "t.csv"
    table.write_text("file,camera,lens,price\nparis.jpg,mine,,3\n")
    build_with(writer, table)
    own = {"camera": "mine", "lens": None, "price": 3}
    assert described(writer) == {"paris.jpg": own}
    build_with(writer, table, exif=True)
    assert described(writer) == {"paris.jpg": EXPECTED | own}


def test_photographs_in_tars_and_zips_are_described_too(writer: Writer, tmp_path: Path) -> None:
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("paris.jpg", jpeg())
        out.writestr("index.jsonl", json.dumps({"file": "paris.jpg", "taken": "long ago"}))
    build_with(writer, archive)
    assert described(writer) == {"paris.jpg": EXPECTED | {"taken": "long ago"}}


def test_an_item_is_kept_when_the_library_that_reads_it_is_missing(
    writer: Writer, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Encoder(PixelEncoder):
        def preprocess(self, image: bytes) -> npt.NDArray[np.uint8]:
            raise MissingDependencyError("image is HEIC, which needs pillow-heif")

    run(writer, images)
    paint(images, ["001.png"], seed=9)
    progress = build(writer, open_corpus(images), Encoder(), BuildOptions())
    assert (progress.failed, progress.removed, progress.unchanged) == (1, 0, 49)
    assert progress.most_common_failure == "image is HEIC, which needs pillow-heif"
    assert len(ids_of(writer)) == 50


def test_a_folder_becomes_a_collection(writer: Writer, images: Path) -> None:
    progress, encoded = run(writer, images)
    assert (progress.seen, progress.embedded, progress.failed, encoded) == (50, 50, 0, 50)
    encoder = PixelEncoder()
    query = encoder.encode_pixels(encoder.preprocess((images / "017.png").read_bytes())[None])
    hit = writer.collection.search(query, k=1)[0][0]
    assert (hit.id, hit.metadata["path"]) == ("017.png", str(images / "017.png"))
    assert not (writer.folder / "failures.jsonl").exists()


def test_a_second_run_embeds_only_what_changed(writer: Writer, images: Path) -> None:
    run(writer, images)
    assert run(writer, images)[1] == 0
    paint(images, ["001.png", "new.png"], seed=9)
    (images / "002.png").unlink()
    progress, encoded = run(writer, images)
    assert (encoded, progress.embedded, progress.removed, progress.unchanged) == (2, 2, 1, 48)
    assert set(ids_of(writer)) == {path.name for path in images.iterdir()}
    fresh = PixelEncoder()
    row = fresh.encode_pixels(fresh.preprocess((images / "001.png").read_bytes())[None])[0]
    np.testing.assert_allclose(writer.collection.embedding("001.png"), row, atol=1e-3)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the images that are read from here on."""
    names: list[str] = []
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.suffix in {".png", ".jpg"}:
            names.append(path.name)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    return names


def settle(folder: Path, seconds: float = 3600) -> None:
    """Let the files of a folder have changed a while ago."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - seconds,) * 2)


def test_files_of_the_same_size_and_time_are_not_read_again(
    writer: Writer, images: Path, reads: list[str]
) -> None:
    settle(images)
    run(writer, images)
    assert len(reads) == 50
    rids = {item.id: item.rid for item in writer.catalog.items()}
    reads.clear()
    progress, encoded = run(writer, images)
    assert (reads, encoded) == ([], 0)
    assert (progress.seen, progress.unchanged, progress.removed) == (50, 50, 0)
    progress, encoded = build_with(writer, images, checksum=True)
    assert (len(reads), encoded, progress.unchanged) == (50, 0, 50)
    assert {item.id: item.rid for item in writer.catalog.items()} == rids


@pytest.mark.parametrize("change", ["bytes", "time", "exif", "moved", "gone"])
def test_what_makes_a_file_be_read_again(
    writer: Writer, images: Path, reads: list[str], change: str
) -> None:
    settle(images)
    run(writer, images)
    reads.clear()
    place, exif = images, None
    if change == "bytes":
        before = (images / "007.png").stat().st_mtime_ns
        (images / "007.png").write_bytes((images / "008.png").read_bytes() + b" ")
        os.utime(images / "007.png", ns=(before, before))
        reads.clear()
    elif change == "time":
        os.utime(images / "007.png", (1e9, 1e9))
    elif change == "exif":
        exif = False
    elif change == "moved":
        place = images.rename(images.parent / "elsewhere")
    elif change == "gone":
        (images / "007.png").unlink()
    progress, encoded = build_with(writer, place, exif=exif, keep=change == "moved")
    expected = {"bytes": ["007.png"], "time": ["007.png"], "gone": []}
    assert sorted(reads) == expected.get(change, sorted(path.name for path in place.iterdir()))
    assert encoded == (change == "bytes")
    assert progress.removed == (change == "gone")
    path = writer.collection.get("008.png").metadata["path"]
    assert path == str(place / "008.png")
    reads.clear()
    settled = build_with(writer, place, exif=exif, keep=change == "moved")[0]
    assert (reads, settled.unchanged) == ([], 49 + (change != "gone"))


def test_a_file_that_has_just_changed_is_read_again(
    writer: Writer, images: Path, reads: list[str]
) -> None:
    """It may change once more within the same tick of the clock, at the same size."""
    settle(images)
    settle(images, -3600)  # the clock was set back: nothing is known
    run(writer, images)
    reads.clear()
    assert run(writer, images)[0].unchanged == 50
    assert len(reads) == 50
    settle(images)
    run(writer, images)
    reads.clear()
    run(writer, images)
    assert not reads  # from now on


def test_items_of_an_earlier_version_are_read_once_and_keep_their_rids(
    writer: Writer, images: Path, reads: list[str]
) -> None:
    settle(images)
    run(writer, images)
    stamped = {item.id: item.version for item in writer.catalog.items()}
    writer.restamp({name: version[:49] for name, version in stamped.items()})
    rids = {item.id: item.rid for item in writer.catalog.items()}
    reads.clear()
    progress, encoded = run(writer, images)
    assert (len(reads), encoded, progress.unchanged) == (50, 0, 50)
    assert {item.id: item.version for item in writer.catalog.items()} == stamped
    assert {item.id: item.rid for item in writer.catalog.items()} == rids
    writer.close()
    assert verify_collection(writer.folder).is_sound


def test_images_of_a_table_are_not_read_again_unless_their_row_changed(
    writer: Writer, images: Path, reads: list[str]
) -> None:
    settle(images)
    table = images / "t.csv"
    table.write_text("file,label\n001.png,a\n002.png,b\n")
    run(writer, table)
    reads.clear()
    table.write_text("file,label\n001.png,z\n002.png,b\n")
    progress, encoded = run(writer, table)
    assert (reads, encoded, progress.unchanged) == (["001.png"], 0, 2)
    assert writer.collection.get("001.png").metadata["label"] == "z"


def test_new_metadata_does_not_embed_again(writer: Writer, images: Path) -> None:
    table = images / "t.csv"
    table.write_text("file,label\n001.png,a\n002.png,b\n")
    assert run(writer, table)[1] == 2
    before = writer.collection.embedding("001.png")
    table.write_text("file,label\n001.png,z\n002.png,b\n")
    assert run(writer, table)[1] == 0
    assert writer.collection.get("001.png").metadata["label"] == "z"
    assert writer.collection.count('label = "z"') == 1
    np.testing.assert_allclose(writer.collection.embedding("001.png"), before, atol=1e-3)


def test_bad_files_are_listed_and_never_fatal(writer: Writer, images: Path) -> None:
    run(writer, images)
    (images / "003.png").write_bytes(b"no image")
    (images / "dangling.png").symlink_to(images / "004.png")
    (images / "cut.png").write_bytes((images / "005.png").read_bytes()[:40])
    progress, _ = run(writer, images)
    lines = (writer.folder / "failures.jsonl").read_text().splitlines()
    failures = {row["id"]: row["error"] for row in map(json.loads, lines)}
    assert set(failures) == {"003.png", "cut.png"}
    assert "UnidentifiedImageError" in failures["003.png"]
    assert progress.failed == 2
    assert "003.png" not in ids_of(writer)  # its old embedding was deleted
    paint(images, ["003.png", "cut.png"])
    run(writer, images)
    assert not (writer.folder / "failures.jsonl").exists()
    assert "003.png" in ids_of(writer)


def read_failures(writer: Writer) -> dict[str, str]:
    """Return the reason of each failure by its id."""
    lines = (writer.folder / "failures.jsonl").read_text().split("\n")
    return {row["id"]: row["error"] for row in map(json.loads, filter(None, lines))}


@pytest.mark.parametrize("keep", [False, True])
def test_an_item_that_cannot_be_read_for_now_is_kept(
    writer: Writer, images: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    run(writer, images)
    before = writer.collection.embedding("003.png")
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.name == "003.png":
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    progress, _ = run(writer, images, keep)
    assert (progress.failed, progress.removed) == (1, 0)
    assert "Input/output error" in read_failures(writer)["003.png"]
    np.testing.assert_array_equal(writer.collection.embedding("003.png"), before)


@pytest.mark.parametrize(("limit", "word"), [(None, "at most 10 may"), ("50%", "at most 25 may")])
def test_a_corpus_that_shrank_by_accident_deletes_nothing(
    writer: Writer, images: Path, limit: str | None, word: str
) -> None:
    run(writer, images)
    for number in range(1, 50):
        (images / f"{number:03}.png").unlink()
    with pytest.raises(InputError, match=f"lacks 49 of the collection's 50 items; {word}") as told:
        run(writer, images, max_delete=limit)
    assert "--max-delete 49" in told.value.message
    assert "--keep" in told.value.message
    assert writer.collection.count() == 50
    assert run(writer, images, max_delete="49")[0].removed == 49


def test_images_that_no_longer_decode_count_as_deletions_too(writer: Writer, images: Path) -> None:
    run(writer, images)
    for number in range(11):
        (images / f"{number:03}.png").write_bytes(b"no image")
    paint(images, ["fresh.png"], seed=3)
    with pytest.raises(InputError, match="lacks 11 of"):
        run(writer, images)
    assert writer.collection.count() == 51  # what is new was taken in
    assert run(writer, images, max_delete="100%")[0].removed == 11


@pytest.mark.parametrize("limit", ["all", "-1", "120%", "1.5", "nan", "inf"])
def test_a_limit_that_means_nothing_is_refused_by_name(
    writer: Writer, images: Path, limit: str
) -> None:
    with pytest.raises(InputError, match="max-delete is") as caught:
        run(writer, images, max_delete=limit)
    assert caught.value.field == "max_delete"


@pytest.mark.parametrize(
    "damage", ["cut in a member", "cut after a member", "broken header", "gone"]
)
def test_a_shard_that_is_cut_costs_what_lies_behind_the_cut(
    writer: Writer, images: Path, tmp_path: Path, damage: str
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    names = sorted(path.name for path in images.iterdir())
    for number in range(3):
        with tarfile.open(shards / f"{number}.tar", "w") as archive:
            for name in names[16 * number : 16 * number + 16]:
                archive.add(images / name, name)
    run(writer, shards)
    assert writer.collection.count() == 48
    raw = bytearray((shards / "1.tar").read_bytes())
    with tarfile.open(shards / "1.tar") as archive:
        sixth = archive.getmembers()[5]
    if damage == "cut in a member":
        raw = raw[: sixth.offset_data + 10]
    elif damage == "cut after a member":
        raw = raw[: sixth.offset]
    elif damage == "broken header":
        raw[sixth.offset + 150] ^= 1
    (shards / "1.tar").write_bytes(b"" if damage == "gone" else raw)
    with tarfile.open(shards / "2.tar", "a") as archive:
        archive.add(images / names[48], names[48])
    progress, encoded = run(writer, shards)
    assert (progress.failed, progress.removed, encoded) == (1, 0, 1)
    assert writer.collection.count() == 49
    assert "1.tar cannot be read to its end" in read_failures(writer)["1.tar"]


def test_bad_rows_of_a_table_cost_themselves_alone_and_delete_nothing(
    writer: Writer, images: Path
) -> None:
    table = images / "t.jsonl"
    rows = [{"sku": f"s{n}", "file": f"{n:03}.png"} for n in range(4)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = BuildOptions(batch=4, workers=2)
    encoder = PixelEncoder()
    build(writer, open_corpus(table, id_column="sku"), encoder, options)
    lines = [json.dumps(rows[0]), "{not json", "[1]", '{"sku": "s3"}', '{"file": "003.png"}']
    lines.append(json.dumps({"sku": "s4", "file": "004.png", "odd": 2**70}))
    table.write_text("\n".join(lines))
    build(writer, open_corpus(table, id_column="sku"), encoder, options)
    assert set(ids_of(writer)) == {"s0", "s1", "s2", "s3"}
    told = read_failures(writer)
    assert "not JSON" in told["t.jsonl line 2"]
    assert "not a JSON object" in told["t.jsonl line 3"]
    assert "row 4 has no 'file'" in told["s3"]
    assert "not usable" in told[""]
    assert "JSON" in told["s4"]


def test_names_that_cannot_be_ids_are_listed_and_never_fatal(writer: Writer, images: Path) -> None:
    odd = os.fsencode(images) + b"/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes((images / "001.png").read_bytes())
    progress, _ = run(writer, images)
    assert (progress.embedded, progress.failed) == (50, 1)
    failure = json.loads((writer.folder / "failures.jsonl").read_text())
    assert failure["id"] == "caf\\udce9.png"
    table = images / "t.csv"
    table.write_text("sku,file\n,001.png\n2,002.png\n")
    create_collection(writer.folder.parent / "d", dim=DIM)
    with Writer(writer.folder.parent / "d") as other:
        progress = build(other, open_corpus(table, id_column="sku"), PixelEncoder())
        assert (progress.embedded, progress.failed) == (1, 1)


def test_a_duplicate_id_is_listed_and_the_first_entry_is_used(writer: Writer, images: Path) -> None:
    table = images / "t.csv"
    table.write_text("sku,file\n1,001.png\n1,002.png\n2,003.png\n")
    encoder = PixelEncoder()
    progress = build(writer, open_corpus(table, id_column="sku"), encoder)
    assert (progress.embedded, progress.failed) == (2, 1)
    assert writer.collection.get("1").metadata["path"].endswith("001.png")


def test_another_corpus_does_not_empty_the_collection(
    writer: Writer, images: Path, tmp_path: Path
) -> None:
    run(writer, images)
    paint(tmp_path / "other", ["x.png"])
    with pytest.raises(InputError, match="--keep"):
        run(writer, tmp_path / "other")
    assert run(writer, tmp_path / "other", keep=True)[1] == 1
    assert writer.collection.count() == 51


_CHILD = """
import sys, time
sys.path.insert(0, {tests!r})
from tests.index.ingest.test_builder import PixelEncoder
from twinlens.index.ingest import builder, intake
from twinlens.index.ingest.corpus import open_corpus
from twinlens.index.writer import Writer
intake.COMMIT_ROWS = 8
class Slow(PixelEncoder):
    def encode_pixels(self, pixels):
        time.sleep(0.01)
        return super().encode_pixels(pixels)
with Writer({collection!r}, seal_rows=30) as writer:
    def tell(progress):
        sys.stdout.write(str(writer.catalog.count()) + "\\n")
        sys.stdout.flush()
    builder.build(writer, open_corpus({images!r}), Slow(), builder.BuildOptions(4, 2), tell)
"""


def _build_and_kill(folder: Path, images: Path, seconds: float) -> int:
    """Build in a separate process, killed after a while; return the rows that it reported."""
    code = _CHILD.format(
        tests=str(Path(__file__).parents[3]), collection=str(folder), images=str(images)
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while lines[-1].strip() == "0":  # not before the first commit
        lines.append(process.stdout.readline())
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    lines += list(process.stdout)
    process.wait()
    timer.join()
    process.stdout.close()
    return max([int(line) for line in lines if line.endswith("\n")], default=0)


def _drill_build(place: Path, images: Path, kills: int) -> None:
    """Kill builds repeatedly after their first commit, each until it completes."""
    rng = random.Random(kills)
    create_collection(place / "whole", dim=DIM)
    with Writer(place / "whole", seal_rows=30) as writer:
        run(writer, images)
        whole = contents(writer)
    number, committed = 0, len(whole)
    for _ in range(kills):
        if committed == len(whole):  # this one is complete: start another
            number += 1
            create_collection(place / f"killed{number}", dim=DIM)
        folder = place / f"killed{number}"
        reported = _build_and_kill(folder, images, rng.uniform(0, 0.35))
        assert reported > 0  # something was committed before the kill
        with Collection(folder) as reader:
            committed = len(reader)
            assert reported <= committed <= len(whole)
    for folder in place.glob("killed*"):
        with Writer(folder, seal_rows=30) as writer:
            before = len(writer.collection)
            _, encoded = run(writer, images)
            assert encoded == len(whole) - before  # nothing committed is embedded again
            assert contents(writer) == whole
        assert verify_collection(folder).is_sound


def test_a_killed_build_resumes(tmp_path: Path, images: Path) -> None:
    paint(images, [f"more{n:03}.png" for n in range(150)], seed=4)
    _drill_build(tmp_path, images, kills=3)


@pytest.mark.slow
def test_builds_killed_at_100_points_resume(tmp_path: Path, images: Path) -> None:
    paint(images, [f"more{n:03}.png" for n in range(350)], seed=4)
    _drill_build(tmp_path, images, kills=100)


def test_decoding_overlaps_the_encoder(writer: Writer, images: Path) -> None:
    class Watching(PixelEncoder):
        is_encoding = False
        overlaps = 0

        def preprocess(self, image: bytes) -> npt.NDArray[np.uint8]:
            time.sleep(0.005)
            self.overlaps += self.is_encoding
            return super().preprocess(image)

        def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            self.is_encoding = True
            time.sleep(0.05)
            self.is_encoding = False
            return super().encode_pixels(pixels)

    encoder = Watching()
    build(writer, open_corpus(images), encoder, BuildOptions(batch=10, workers=2))
    assert encoder.overlaps >= 5


def test_commits_overlap_the_encoder(
    writer: Writer, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(PixelEncoder):
        is_encoding = False

        def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            self.is_encoding = True
            time.sleep(0.1)
            self.is_encoding = False
            return super().encode_pixels(pixels)

    encoder = Slow()
    seen: list[bool] = []
    upsert = writer.upsert

    def watched(*arguments: Any) -> int:
        seen.append(encoder.is_encoding)
        return upsert(*arguments)

    monkeypatch.setattr(writer, "upsert", watched)
    monkeypatch.setattr(intake, "COMMIT_ROWS", 5)
    build(writer, open_corpus(images), encoder, BuildOptions(batch=5, workers=2))
    assert len(seen) >= 3
    # All but the last overlap; none would if commits waited for the encoder.
    assert sum(seen) >= len(seen) // 2


def test_an_encoder_that_fails_ends_the_build_and_keeps_what_was_committed(
    writer: Writer, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(PixelEncoder):
        calls = 0

        def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            self.calls += 1
            if self.calls > 2:
                raise RuntimeError("the device is gone")
            return super().encode_pixels(pixels)

    monkeypatch.setattr(intake, "COMMIT_ROWS", 4)
    with pytest.raises(RuntimeError, match="device is gone"):
        build(writer, open_corpus(images), Failing(), BuildOptions(batch=4, workers=2))
    assert len(writer.collection) == 8
