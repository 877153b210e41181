"""Turns the videos of a corpus into entries of their own: a frame each, `clip.mp4#t=12.500`.

A video whose file has not changed, and whose frames were all indexed, is not opened: the version of
its last frame tells how many there are. The frames of any other video are decoded, and those that
are indexed already are not embedded again. A damaged video gives the frames before the damage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from twinlens.bundle.image.video import FrameSampling, SampledFrame, read_frame, sample_frames
from twinlens.errors import ImageError, TwinlensError
from twinlens.index.ingest.entries import CorpusEntry, unreadable
from twinlens.index.ingest.file_names import is_video
from twinlens.index.ingest.versions import add_stamp, frame_version, has_stamp, stamp_file
from twinlens.index.storage.catalog import Catalog

FRAME_MARK = "#t="  # as in Media Fragments: seconds follow
BLOCK = 1 << 20


class VideoFrames:
    """Expands the videos among the entries of a build; without a sampling, leaves them out.

    `stale` are ids of frames that a video which was read again has no more.
    """

    def __init__(
        self, catalog: Catalog, sampling: FrameSampling | None, options: str, checksum: bool
    ) -> None:
        self.stale: list[str] = []
        self._catalog = catalog
        self._sampling = sampling
        self._options = f"{options} {sampling}"
        self._checksum = checksum

    def expand(self, entries: Iterator[CorpusEntry]) -> Iterator[CorpusEntry]:
        """Yield all entries, those of videos frame by frame."""
        for entry in entries:
            if entry.file is None or not is_video(entry.file):
                yield entry
            elif self._sampling is not None:
                yield from self._frames_of(entry, Path(entry.file), self._sampling)

    def _frames_of(
        self, entry: CorpusEntry, path: Path, sampling: FrameSampling
    ) -> Iterator[CorpusEntry]:
        known = self._known_frames(entry.id)
        stamp = stamp_file(entry, self._options)
        if stamp and not self._checksum and _is_complete([v for _, v in known], stamp):
            yield from (replace(entry, id=id, version=version) for id, version in known)
            return
        seen: set[str] = set()
        try:
            digest = _digest_file(path, sampling)
            for frame, count in _with_last(sample_frames(path, sampling)):
                found = _frame_entry(entry, frame, digest, _end_stamp(stamp, count))
                seen.add(found.id)
                yield found
        except Exception as error:  # a damaged file may raise any error; the build must continue
            reason = error.message if isinstance(error, TwinlensError) else str(error)
            yield unreadable(entry.id, reason, covers=entry.id + FRAME_MARK)
            return
        self.stale += [id for id, _ in known if id not in seen]

    def _known_frames(self, video: str) -> list[tuple[str, str]]:
        """Return ids and versions of the frames that are indexed."""
        first = video + FRAME_MARK
        rows = self._catalog.select(
            "SELECT id, version FROM items WHERE id >= ? AND id < ?", (first, _after(first))
        )
        return [(str(id), str(version)) for id, version in rows]


def split_frame(path: str) -> tuple[str, float] | None:
    """Return the video and the second of a frame's id or path; None if it names no frame."""
    video, mark, seconds = path.rpartition(FRAME_MARK)
    try:
        return (video, float(seconds)) if mark and is_video(video) else None
    except ValueError:
        return None


def read_video_frame(path: str) -> bytes:
    """Return the frame at an item's path as JPEG; every failure is an `OSError`."""
    found = split_frame(path)
    if found is None:
        raise OSError(f"{path} names no frame of a video")
    try:
        return read_frame(Path(found[0]), found[1])
    except (ImageError, TwinlensError) as error:
        raise OSError(f"{path}: {error.message}") from error


def _after(prefix: str) -> str:
    """Return the lowest string above all that begin with a prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _is_complete(versions: Sequence[str], stamp: str) -> bool:
    """Return whether these are all frames of a video of this stamp."""
    last = _end_stamp(stamp, len(versions))
    ends = sum(has_stamp(version, last) for version in versions)
    rest = sum(has_stamp(version, stamp) for version in versions)
    return ends == 1 and rest == len(versions) - 1


def _end_stamp(stamp: str, count: int | None) -> str:
    """Return the stamp of the last of `count` frames, or that of all others."""
    if count is None or not stamp:
        return stamp
    return hashlib.sha256(f"{stamp} {count}".encode()).hexdigest()[:16]


def _with_last(frames: Iterator[SampledFrame]) -> Iterator[tuple[SampledFrame, int | None]]:
    """Yield frames with None, the last one with their number."""
    held: SampledFrame | None = None
    count = 0
    for frame in frames:
        if held is not None:
            yield held, None
        held, count = frame, count + 1
    if held is not None:
        yield held, count


def _frame_entry(entry: CorpusEntry, frame: SampledFrame, digest: str, stamp: str) -> CorpusEntry:
    at = f"{FRAME_MARK}{frame.seconds:.3f}"
    metadata = {
        **entry.metadata,
        "path": f"{entry.file}{at}",
        "video": entry.id,
        "seconds": frame.seconds,
    }
    version = add_stamp(frame_version(digest, metadata), stamp)
    return CorpusEntry(entry.id + at, lambda: frame.image, metadata, version=version)


def _digest_file(path: Path, sampling: FrameSampling) -> str:
    digest = hashlib.sha256(str(sampling).encode())
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()[:24]
