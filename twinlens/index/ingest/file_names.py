"""Classifies file names: supported images, images of unsupported formats, hidden files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from twinlens.bundle.image.image_source import IMAGE_SUFFIXES
from twinlens.bundle.image.video import VIDEO_SUFFIXES

# Image formats without a decoder here: reported as skipped.
UNSUPPORTED_SUFFIXES = frozenset(
    {".jxl", ".jp2", ".svg", ".psd", ".eps"} | {".dng", ".cr2", ".cr3", ".nef", ".arw"}
)


def describe_unsupported(unsupported: Mapping[str, int]) -> str:
    """Return the counts as text, most frequent first."""
    ordered = sorted(unsupported.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{count} {suffix}" for suffix, count in ordered)


def count_unsupported(names: Iterable[str]) -> dict[str, int]:
    """Count images of unsupported formats by suffix."""
    suffixes = Counter(map(suffix_of, names))
    return {suffix: count for suffix, count in suffixes.items() if suffix in UNSUPPORTED_SUFFIXES}


def suffix_of(name: str) -> str:
    """Return the suffix in lower case; a name whose only dot comes first has none."""
    stem, _, end = name.rpartition("/")[2].rpartition(".")
    return f".{end.lower()}" if stem else ""


def is_hidden(name: str) -> bool:
    """Return whether a file or one of its folders is hidden: `._a.jpg`, `.thumbnails/b.png`."""
    return any(part.startswith(".") for part in name.split("/"))


def is_video(name: str) -> bool:
    """Return whether a file is a video of a supported format."""
    return suffix_of(name) in VIDEO_SUFFIXES


def is_indexed(name: str) -> bool:
    """Return whether a file is visible, and an image or a video of a supported format."""
    return is_image(name) or (is_video(name) and not name.rpartition("/")[2].startswith("."))


def is_image(name: str) -> bool:
    """Return whether a file is visible and an image of a supported format."""
    pure = PurePosixPath(name)
    return pure.suffix.lower() in IMAGE_SUFFIXES and not pure.name.startswith(".")
