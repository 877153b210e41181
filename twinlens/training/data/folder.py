"""An image folder: `class/image.jpg`, or images alone; `image.txt` beside one is its caption.

`image.negatives.txt` holds captions that are almost true of the image. The listing of a large
folder is kept on disk.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twinlens.training.data.listing.columns import RecordColumns, gather_columns
from twinlens.training.data.listing.kept import find_listing, keep_listing, read_facts
from twinlens.training.data.records import Record, is_image

TEXT = ".txt"


class FolderSource:
    """Images under a folder, sorted by path; the first folder level, if any, is the label."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        name = f"folder {folder.absolute()}"
        known = read_facts(find_listing(name))
        self._times: list[
            list[Any]
        ] = []  # of all folders below, with the time of each one's last change
        if known is not None and known == _read_times(row[0] for row in known):
            self.records = keep_listing(name, known, self._list)
        else:
            made = self._list()
            self.records = keep_listing(name, self._times, lambda: made)

    def read(self, index: int) -> bytes:
        """Return the bytes of image `index`."""
        return (self.folder / self.records[index].key).read_bytes()

    def _list(self) -> RecordColumns:
        images: list[tuple[str, int, bool]] = []
        for root, folders, _ in os.walk(self.folder, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            self._times += _read_times([root])
            images += _scan(root)
        images.sort(key=lambda row: Path(row[0]))
        return gather_columns(self._record(*image) for image in images)

    def _record(self, path: str, size: int, has_texts: bool) -> Record:
        key = os.path.relpath(path, self.folder).replace(os.sep, "/")
        label = key.split("/", 1)[0] if "/" in key else None
        if not has_texts:
            return Record(key, size, label)
        image = Path(path)
        captions = _lines(image.with_suffix(TEXT))
        return Record(key, size, label, captions, _lines(image.with_suffix(".negatives.txt")))


def _read_times(folders: Any) -> list[list[Any]]:
    """Return each existing folder with the time when a name was last added or removed."""
    return [[str(path), Path(path).stat().st_mtime_ns] for path in folders if Path(path).is_dir()]


def _scan(root: str) -> list[tuple[str, int, bool]]:
    """Return the images directly in a folder: path, size, and whether a caption file exists."""
    with os.scandir(root) as entries:
        files = {entry.name: entry for entry in entries if entry.is_file()}
    texts = {name.removesuffix(TEXT).removesuffix(".negatives") for name in files if TEXT in name}
    return [
        (entry.path, entry.stat().st_size, name.rpartition(".")[0] in texts)
        for name, entry in files.items()
        if is_image(name)
    ]


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())
