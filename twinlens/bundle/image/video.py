"""Frames of videos (MP4, MOV, WebM), read by PyAV, which the extra `video` installs.

What must stay true: length, size and the number of frames are bounded; frames come in order,
upright, each with its second; every fault of a file is an `ImageError`, raised after the good
frames before it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from twinlens.errors import ImageError, InputError, MissingDependencyError, TooLargeError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm")
SCENES, NONE = "scenes", "none"
CUT = 25.0  # mean difference, 0 to 255, between two frames of different scenes
SHORTEST_SCENE = 0.5  # seconds
_SHRUNK = 32  # side of the compared frames
_LONG_ENOUGH = 768  # short side of a returned frame: more than any encoder reads
_QUALITY = 95
_EARLY = 0.001  # times are rounded to milliseconds

VideoSource = bytes | Path


@dataclass(frozen=True)
class FrameSampling:
    """Which frames: one each `every` seconds, or, with None, the first of each scene.

    At most `most`: frames of a longer video are spaced wider.
    """

    every: float | None = 2.0
    most: int = 1000

    def __post_init__(self) -> None:
        if self.every is not None and not (math.isfinite(self.every) and self.every > 0):
            raise InputError(
                f"frames is {self.every}; give seconds between frames, above 0, or {SCENES}",
                field="frames",
            )


@dataclass(frozen=True)
class VideoLimits:
    """Limits of one video."""

    max_bytes: int = 4 << 30
    max_seconds: float = 4 * 3600.0
    max_pixels: int = 36_000_000  # of a frame: 8K
    threads: int = 0  # threads of the decoder; 0: its own choice


@dataclass(frozen=True)
class SampledFrame:
    """A frame as JPEG, and its second in the video."""

    seconds: float
    image: bytes


def parse_sampling(text: str) -> FrameSampling | None:
    """Return the sampling that an option names: seconds, `scenes`, or `none` for no frame."""
    if text == NONE:
        return None
    if text == SCENES:
        return FrameSampling(None)
    try:
        return FrameSampling(float(text))
    except ValueError:
        raise InputError(
            f"frames is {text[:40]!r}; give seconds between frames, {SCENES} or {NONE}",
            field="frames",
        ) from None


def sample_frames(
    source: VideoSource,
    sampling: FrameSampling,
    limits: VideoLimits | None = None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[SampledFrame]:
    """Yield the sampled frames of a video; a damaged one raises after its last good frame.

    `check` is called at every decoded frame, and may raise to end the work.
    """
    limits = limits or VideoLimits()
    with _opened(source, limits) as (container, stream):
        frames = _checked(_decode(container, stream, limits), check)
        if sampling.every is None:
            chosen = _first_of_scenes(frames, sampling.most)
        else:
            length = _length_of(container)
            step = max(sampling.every, (length or 0) / sampling.most)
            chosen = _each(frames, step, sampling.most)
        empty = True
        for seconds, frame in chosen:
            empty = False
            yield SampledFrame(round(max(0.0, seconds), 3), _pack(frame))
        if empty:
            raise ImageError("the video has no frame that can be decoded")


def read_frame(source: VideoSource, seconds: float) -> bytes:
    """Return the frame at a second, as JPEG."""
    limits = VideoLimits()
    with _opened(source, limits) as (container, stream):
        container.seek(max(0, int((seconds - 1) * 1_000_000)), backward=True)
        last = None
        for at, frame in _decode(container, stream, limits):
            last = frame
            if at >= seconds - _EARLY:
                break
        if last is None:
            raise ImageError(f"the video has no frame at {seconds:.3f} s")
        return _pack(last)


@contextmanager
def _opened(
    source: VideoSource, limits: VideoLimits
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video within limits; the library's errors become `ImageError`s."""
    av = _load()
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > limits.max_bytes:
        raise TooLargeError(f"the video has {size} bytes; the limit is {limits.max_bytes}")
    try:
        file: Any = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        with av.open(file, mode="r", format=_format_of(source), metadata_errors="ignore") as found:
            if not found.streams.video:
                raise ImageError("the file holds no video")
            length = _length_of(found)
            if length is not None and length > limits.max_seconds:
                raise TooLargeError(
                    f"the video has {length:.0f} seconds; the limit is {limits.max_seconds:.0f}"
                )
            stream = found.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = limits.threads
            yield found, stream
    except (av.FFmpegError, ValueError, EOFError) as error:
        raise ImageError(f"the video cannot be decoded: {error}") from None


def _load() -> Any:
    try:
        import av
        import av.logging
    except ImportError:
        raise MissingDependencyError(
            "videos are read by PyAV, which is not installed; run: pip install 'twinlens[video]'"
        ) from None
    av.logging.set_level(None)
    return av


def _format_of(source: VideoSource) -> str:
    """Return the one allowed parser for the data: FFmpeg has hundreds, some open other files."""
    if isinstance(source, bytes):
        head = source[:12]
    else:
        with source.open("rb") as handle:
            head = handle.read(12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    raise ImageError(f"the file is neither MP4, MOV nor WebM: it begins with {head[:8]!r}")


def _length_of(container: InputContainer) -> float | None:
    """Return the duration in the header, in seconds."""
    return None if container.duration is None else container.duration / 1_000_000


def _decode(
    container: InputContainer, stream: VideoStream, limits: VideoLimits
) -> Iterator[tuple[float, VideoFrame]]:
    """Yield the frames with their seconds, counted from the stream's first frame."""
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    for frame in container.decode(stream):
        if frame.width * frame.height > limits.max_pixels:
            raise TooLargeError(
                f"a frame has {frame.width} x {frame.height} pixels; the limit is"
                f" {limits.max_pixels}"
            )
        seconds = 0.0 if frame.time is None else frame.time - start
        if seconds > limits.max_seconds:  # the header may be wrong
            raise TooLargeError(f"the video is longer than {limits.max_seconds:.0f} seconds")
        yield seconds, frame


def _checked(
    frames: Iterator[tuple[float, VideoFrame]], check: Callable[[], None]
) -> Iterator[tuple[float, VideoFrame]]:
    for one in frames:
        check()
        yield one


def _each(
    frames: Iterator[tuple[float, VideoFrame]], step: float, most: int
) -> Iterator[tuple[float, VideoFrame]]:
    """Yield the first frame at or after each multiple of `step` seconds."""
    count = 0
    for seconds, frame in frames:
        if seconds >= count * step - _EARLY:
            yield seconds, frame
            count = max(count + 1, math.floor(seconds / step + _EARLY) + 1)
            if count >= most and seconds >= (most - 1) * step - _EARLY:
                return


def _first_of_scenes(
    frames: Iterator[tuple[float, VideoFrame]], most: int
) -> Iterator[tuple[float, VideoFrame]]:
    """Yield the first frame, and each that differs much from the one before it."""
    before: npt.NDArray[np.int16] | None = None
    last, count = -math.inf, 0
    for seconds, frame in frames:
        small = frame.reformat(_SHRUNK, _SHRUNK, "rgb24").to_ndarray().astype(np.int16)
        is_cut = before is None or float(np.abs(small - before).mean()) >= CUT
        before = small
        if is_cut and seconds - last >= SHORTEST_SCENE:
            yield seconds, frame
            last, count = seconds, count + 1
            if count == most:
                return


def _pack(frame: VideoFrame) -> bytes:
    """Return a frame as JPEG, upright and no larger than an encoder can use."""
    shrink = min(1.0, _LONG_ENOUGH / min(frame.width, frame.height))
    size = (max(1, round(frame.width * shrink)), max(1, round(frame.height * shrink)))
    pixels = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
    turned = np.rot90(pixels, round(frame.rotation / 90))  # both count counterclockwise
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(turned))
    image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()
