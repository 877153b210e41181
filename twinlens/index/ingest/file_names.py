"""What a file name tells: a picture, a picture of a kind that nothing here reads, a hidden file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
# Pictures that no decoder here reads: told of, so that nobody believes them indexed.
FOREIGN_SUFFIXES = frozenset(
    {".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw"}
)


def describe_foreign(left_out: Mapping[str, int]) -> str:
    """Return the counts in words, the most frequent kind first."""
    ordered = sorted(left_out.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{count} {suffix}" for suffix, count in ordered)


def count_foreign(names: Iterable[str]) -> dict[str, int]:
    """Count, by suffix, the pictures of kinds that cannot be read."""
    suffixes = Counter(map(suffix_of, names))
    return {suffix: count for suffix, count in suffixes.items() if suffix in FOREIGN_SUFFIXES}


def suffix_of(name: str) -> str:
    """Return the suffix in lower case; a name that begins with its only dot has none."""
    stem, _, end = name.rpartition("/")[2].rpartition(".")
    return f".{end.lower()}" if stem else ""


def is_hidden(name: str) -> bool:
    """Tell what systems and editors keep to themselves: `._a.jpg`, `.thumbnails/b.png`."""
    return any(part.startswith(".") for part in name.split("/"))


def is_image(name: str) -> bool:
    """Tell whether a visible file is a picture of a kind that is read."""
    pure = PurePosixPath(name)
    return pure.suffix.lower() in IMAGE_SUFFIXES and not pure.name.startswith(".")
