"""Frames of videos: at their seconds, upright, within limits; a bad file is one clear error."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.bundle.image.videos import BLUE, GREEN, RED, make_video
from twinlens.bundle.image import video
from twinlens.bundle.image.video import (
    FrameSampling,
    VideoLimits,
    parse_sampling,
    read_frame,
    sample_frames,
)
from twinlens.errors import ImageError, InputError, MissingDependencyError, TooLargeError

CLIP = [(RED, 2.0), (GREEN, 1.5), (BLUE, 1.5)]
FORMATS = [("mp4", "mpeg4"), ("mp4", "libx264"), ("mov", "mpeg4"), ("webm", "libvpx-vp9")]


def name_colour(image: bytes) -> str:
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened)
    assert pixels.shape == (48, 64, 3)
    return "rgb"[int(pixels.mean(axis=(0, 1)).argmax())]


def sample(raw: bytes | Path, every: float | None, **options: Any) -> list[tuple[float, str]]:
    found = sample_frames(raw, FrameSampling(every, **options))
    return [(frame.seconds, name_colour(frame.image)) for frame in found]


@pytest.mark.parametrize(("format", "codec"), FORMATS)
def test_frames_come_by_interval_and_by_scene(format: str, codec: str, tmp_path: Path) -> None:
    raw = make_video(CLIP, format, codec)
    path = tmp_path / "clip"
    path.write_bytes(raw)
    expected = [(0.0, "r"), (1.0, "r"), (2.0, "g"), (3.0, "g"), (4.0, "b")]
    assert sample(raw, 1.0) == expected
    assert sample(path, 1.0) == expected
    assert sample(raw, None) == [(0.0, "r"), (2.0, "g"), (3.5, "b")]
    assert [name_colour(read_frame(path, at)) for at in (0.0, 1.9, 2.0, 3.5, 4.9, 60.0)] == [
        *"rrgbbb"
    ]


def test_an_interval_shorter_than_a_frame_gives_every_frame_once() -> None:
    raw = make_video([(RED, 0.5)])
    assert [seconds for seconds, _ in sample(raw, 0.001)] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_more_frames_than_allowed_lie_farther_apart() -> None:
    raw = make_video(CLIP)
    found = sample(raw, 0.1, most=5)
    assert [seconds for seconds, _ in found] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert sample(raw, None, most=2) == [(0.0, "r"), (2.0, "g")]


def test_limits_are_kept() -> None:
    raw = make_video(CLIP)
    for limits in (
        VideoLimits(max_bytes=100),
        VideoLimits(max_seconds=4),
        VideoLimits(max_pixels=1000),
    ):
        with pytest.raises(TooLargeError, match="limit is"):
            list(sample_frames(raw, FrameSampling(), limits))


@pytest.mark.parametrize("raw", [b"", b"no video at all", b"\x00\x00\x00\x18ftypmp42" + b"x" * 50])
def test_what_is_no_video_is_one_error(raw: bytes) -> None:
    pytest.importorskip("av", reason="pip install 'twinlens[video]'")
    with pytest.raises(ImageError, match=r"video|MP4"):
        list(sample_frames(raw, FrameSampling()))


def test_a_cut_video_gives_what_it_has_and_then_an_error() -> None:
    raw = make_video(CLIP, "webm", "libvpx-vp9")
    found = []
    try:
        for frame in sample_frames(raw[: len(raw) * 2 // 3], FrameSampling(0.5)):
            found.append(frame.seconds)
    except ImageError:
        pass
    assert 0 < len(found) < 10


def test_a_file_with_sound_alone_has_no_video() -> None:
    av: Any = pytest.importorskip("av", reason="pip install 'twinlens[video]'")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ImageError, match="holds no video"):
        list(sample_frames(buffer.getvalue(), FrameSampling()))


def test_a_frame_is_turned_upright_and_shrunk() -> None:
    av: Any = pytest.importorskip("av", reason="pip install 'twinlens[video]'")

    class Turned:
        """A frame whose display matrix says to turn it by 90 degrees counterclockwise."""

        rotation = 90

        def __init__(self, pixels: Any) -> None:
            self._frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            self.width, self.height = self._frame.width, self._frame.height

        def to_ndarray(self, **options: Any) -> Any:
            return self._frame.to_ndarray(**options)

    pixels = np.zeros((800, 1600, 3), np.uint8)
    pixels[:, 800:] = 255  # the right half is bright: turned, the upper one
    with Image.open(io.BytesIO(video._pack(Turned(pixels)))) as opened:  # type: ignore[arg-type]
        assert opened.size == (768, 1536)
        assert np.asarray(opened)[100].mean() > 250 > np.asarray(opened)[1400].mean()


def test_without_the_library_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"twinlens\[video\]"):
        list(sample_frames(b"\x00\x00\x00\x18ftyp", FrameSampling()))


def test_the_option_names_seconds_scenes_or_none() -> None:
    assert parse_sampling("0.5") == FrameSampling(0.5)
    assert parse_sampling("scenes") == FrameSampling(None)
    assert parse_sampling("none") is None
    for text in ("x", "0", "-1", "nan", "inf"):
        with pytest.raises(InputError, match="frames is"):
            parse_sampling(text)
