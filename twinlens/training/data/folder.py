"""An image folder: `class/image.jpg`, or images alone; `image.txt` beside one is its caption.

`image.negatives.txt` holds captions that are nearly true of it.
"""

from __future__ import annotations

import os
from pathlib import Path

from twinlens.training.data.records import Record, is_image


class FolderSource:
    """Images under a folder, sorted by path; the first folder level, if any, is the label."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = [self._record(path) for path in sorted(_walk(folder))]

    def read(self, index: int) -> bytes:
        """Return the bytes of image `index`."""
        return (self.folder / self.records[index].key).read_bytes()

    def _record(self, path: Path) -> Record:
        parts = path.relative_to(self.folder).parts
        label = parts[0] if len(parts) > 1 else None
        captions = _lines(path.with_suffix(".txt"))
        negatives = _lines(path.with_suffix(".negatives.txt"))
        return Record("/".join(parts), path.stat().st_size, label, captions, negatives)


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _walk(folder: Path) -> list[Path]:
    found = []
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root) / name for name in files if is_image(name)]
    return found
