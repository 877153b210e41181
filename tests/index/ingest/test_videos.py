"""Each frame of a video is an item; unchanged videos are not opened, and bad ones fail alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.bundle.image.videos import BLUE, GREEN, RED, make_video
from tests.index.ingest.test_builder import DIM, PixelEncoder, paint
from twinlens.bundle.image import video
from twinlens.bundle.image.video import FrameSampling
from twinlens.errors import MissingDependencyError
from twinlens.index.gallery.thumbnails import ThumbnailStore
from twinlens.index.ingest import videos
from twinlens.index.ingest.builder import BuildOptions, build
from twinlens.index.ingest.corpus import open_corpus, read_path
from twinlens.index.ingest.intake import IndexingProgress, read_failures
from twinlens.index.ingest.live_folder import LiveFolder, apply_changes
from twinlens.index.searching.request import SearchOptions
from twinlens.index.searching.searching import search_collection
from twinlens.index.writer import Writer, create_collection

CLIP = [(RED, 1.0), (GREEN, 1.0), (BLUE, 1.0)]
SECOND = FrameSampling(1.0)
OLD = 1_700_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image, and two videos that have not changed for long."""
    folder = tmp_path / "media"
    paint(folder, ["a.png"])
    (folder / "clip.mp4").write_bytes(make_video(CLIP))
    (folder / "trip").mkdir()
    (folder / "trip" / "web.webm").write_bytes(make_video(CLIP[1:], "webm", "libvpx-vp9"))
    for path in folder.rglob("*.*"):
        os.utime(path, (OLD, OLD))
    return folder


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    create_collection(tmp_path / "c", dim=DIM)
    with Writer(tmp_path / "c", seal_rows=30) as opened:
        yield opened


def run(
    writer: Writer, root: Path, sampling: FrameSampling | None = SECOND, *, keep: bool = False
) -> IndexingProgress:
    options = BuildOptions(batch=4, workers=2, frames=sampling, keep=keep)
    return build(writer, open_corpus(root), PixelEncoder(), options)


def ids(writer: Writer) -> list[str]:
    return [item.id for item in writer.catalog.items()]


FRAMES = ["clip.mp4#t=0.000", "clip.mp4#t=1.000", "clip.mp4#t=2.000"]
WEB = ["trip/web.webm#t=0.000", "trip/web.webm#t=1.000"]


def test_each_frame_is_an_item_with_its_second(writer: Writer, root: Path) -> None:
    assert run(writer, root).embedded == 6
    assert ids(writer) == ["a.png", *FRAMES, *WEB]
    item = writer.collection.get("clip.mp4#t=1.000")
    assert item.metadata == {
        "path": f"{root.resolve()}/clip.mp4#t=1.000",
        "video": "clip.mp4",
        "seconds": 1.0,
    }
    green = PixelEncoder().encode_pixels(np.full((1, 2, 2, 3), GREEN, np.uint8))[0]
    assert float(writer.collection.embedding(item.id) @ green) > 0.99
    hits = writer.collection.search(green, 2, filter="seconds >= 1")[0]
    assert hits[0].id == "clip.mp4#t=1.000"
    best = search_collection(writer.collection, green, SearchOptions(k=5, one_per="video")).hits
    assert {hit.metadata.get("video") for hit in best} == {None, "clip.mp4", "trip/web.webm"}
    assert len(best) == 3
    assert len(read_path(str(item.metadata["path"]))) > 100
    assert ThumbnailStore(writer.folder).get(item) is not None


def test_an_unchanged_video_is_not_opened_again(
    writer: Writer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(writer, root)
    with monkeypatch.context() as patch:
        patch.setattr(videos, "sample_frames", None)
        progress = run(writer, root)
    assert (progress.embedded, progress.unchanged, progress.removed) == (0, 6, 0)
    os.utime(root / "clip.mp4", (OLD + 9, OLD + 9))
    progress = run(writer, root)
    assert (progress.embedded, progress.unchanged, progress.removed) == (0, 6, 0)
    with monkeypatch.context() as patch:  # its frames have the new stamp
        patch.setattr(videos, "sample_frames", None)
        assert run(writer, root).failed == 0


def test_a_frame_that_is_missing_is_found_again(writer: Writer, root: Path) -> None:
    run(writer, root)
    writer.delete([FRAMES[1], WEB[1]])
    assert run(writer, root).embedded == 2
    assert set(ids(writer)) == {"a.png", *FRAMES, *WEB}


@pytest.mark.parametrize("keep", [False, True])
def test_a_changed_video_replaces_its_frames(writer: Writer, root: Path, keep: bool) -> None:
    run(writer, root)
    (root / "clip.mp4").write_bytes(make_video(CLIP[:1]))
    progress = run(writer, root, keep=keep)
    assert (progress.embedded, progress.removed) == (1, 2)
    assert set(ids(writer)) == {"a.png", FRAMES[0], *WEB}


def test_other_frames_are_sampled_on_request(writer: Writer, root: Path) -> None:
    run(writer, root)
    progress = run(writer, root, FrameSampling(None))
    assert set(ids(writer)) == {"a.png", *FRAMES, *WEB}
    assert progress.embedded == 5
    assert run(writer, root, FrameSampling(0.5)).embedded > 5
    run(writer, root, None)
    assert ids(writer) == ["a.png"]


def test_a_bad_video_costs_itself_alone(writer: Writer, root: Path) -> None:
    run(writer, root)
    (root / "clip.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42 and nothing more")
    (root / "no.webm").write_bytes(b"text")
    paint(root, ["b.png"], seed=3)
    progress = run(writer, root)
    assert (progress.embedded, progress.failed, progress.removed) == (1, 2, 0)
    assert {one["id"] for one in read_failures(writer.folder)} == {"clip.mp4", "no.webm"}
    assert set(ids(writer)) == {"a.png", "b.png", *FRAMES, *WEB}  # what it was is kept


def test_without_the_library_frames_stay_and_the_remedy_is_told(
    writer: Writer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(writer, root)

    def refuse() -> None:
        raise MissingDependencyError("run: pip install 'twinlens[video]'")

    monkeypatch.setattr(video, "_load", refuse)
    os.utime(root / "clip.mp4", (OLD + 9, OLD + 9))
    progress = run(writer, root)
    assert (progress.failed, progress.removed) == (1, 0)
    assert "twinlens[video]" in progress.most_common_failure
    assert set(ids(writer)) == {"a.png", *FRAMES, *WEB}


def test_a_watched_folder_follows_videos(writer: Writer, root: Path) -> None:
    options = BuildOptions(batch=4, workers=2, frames=SECOND)
    live = LiveFolder(root)

    def apply(*paths: str) -> tuple[int, int]:
        progress = apply_changes(writer, live, paths, PixelEncoder(), options)
        return progress.embedded, progress.removed

    assert apply("a.png", "clip.mp4", "trip") == (6, 0)
    assert apply("clip.mp4", "trip") == (0, 0)
    (root / "clip.mp4").rename(root / "moved.mp4")
    assert apply("clip.mp4", "moved.mp4") == (3, 3)
    (root / "trip" / "web.webm").unlink()
    assert apply("trip/web.webm") == (0, 2)
    assert set(ids(writer)) == {"a.png", *(id.replace("clip", "moved") for id in FRAMES)}
