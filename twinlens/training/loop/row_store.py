"""Rows of a frozen model, kept in a folder: one file per block of images and view.

The folder is named by a hash of weights, data and view, so that every run with the same three reads
it. What must stay true: a file is complete or absent, so that an interrupted pass continues and
computes no file twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from twinlens.bundle.arrays import Pixels
from twinlens.errors import InputError, TwinlensError
from twinlens.training.data.pixels import PixelStore
from twinlens.training.progress import Display

IMAGES = 256  # per file: small enough to lose in an interruption, large against a file's overhead
RECORDS = "records"


class RowMaker(Protocol):
    """Computes rows of some records' pictures in one of their views."""

    def __call__(self, pixels: list[Pixels], records: list[int], view: int) -> dict[str, Tensor]:
        """Return rows by name, one a picture."""
        ...


@dataclass(frozen=True)
class KeptRows:
    """Rows (m, views, ...) by name of the decodable images, and why others are not decodable."""

    rows: dict[str, Tensor]
    records: tuple[int, ...]
    bad: dict[int, str]


@dataclass(frozen=True)
class RowStore:
    """The folder of one pass over `count` images in `views` views each."""

    folder: Path
    count: int
    views: int = 1

    @property
    def is_complete(self) -> bool:
        """Whether every file exists."""
        return all(
            self._path(start, view).is_file()
            for start in self._starts()
            for view in range(self.views)
        )

    def fill(self, store: PixelStore, answer: RowMaker, display: Display) -> None:
        """Compute and write the missing files; a picture is decoded once for all of its views."""
        for start in self._starts():
            missing = [n for n in range(self.views) if not self._path(start, n).is_file()]
            if missing:
                stop = min(start + IMAGES, self.count)
                pixels, records = store.fetch_good(range(start, stop))
                bad = {n: why for n, why in sorted(store.bad.items()) if start <= n < stop}
            for view in missing:
                rows = answer(pixels, records, view) if records else {}
                self._write(self._path(start, view), rows, records, bad)
                done = start * self.views + (view + 1) * (stop - start)
                display.advance("embedding", done, self.count * self.views, {})

    def list_missing(self) -> list[tuple[int, int]]:
        """Return the ranges of items whose file of the first view is missing."""
        ranges = [(start, min(start + IMAGES, self.count)) for start in self._starts()]
        return [some for some in ranges if not self._path(some[0], 0).is_file()]

    def write(self, start: int, rows: dict[str, Tensor], records: list[int]) -> None:
        """Write the file of the items from `start` in the first view."""
        self._write(self._path(start, 0), rows, records, {})

    def read(self) -> KeptRows:
        """Return all rows; the files of a view are in the order of the records."""
        parts: list[list[Mapping[str, Tensor]]] = []
        records: list[int] = []
        bad: dict[int, str] = {}
        for start in self._starts():
            found = [self._read(self._path(start, view)) for view in range(self.views)]
            own, why = found[0][0].pop(RECORDS).tolist(), found[0][1]
            bad |= why
            if own:
                records += own
                parts.append([tensors for tensors, _ in found])
        if not records:
            raise InputError(f"none of the {self.count} images can be decoded", field="DATA")
        names = [name for name in parts[0][0] if name != RECORDS]
        rows = {
            name: torch.cat([torch.stack([one[name] for one in some], 1) for some in parts])
            for name in names
        }
        return KeptRows(rows, tuple(records), bad)

    def _starts(self) -> range:
        return range(0, self.count, IMAGES)

    def _path(self, start: int, view: int) -> Path:
        return self.folder / f"{start:09}-{view:03}.safetensors"

    def _write(
        self, path: Path, rows: dict[str, Tensor], records: list[int], bad: dict[int, str]
    ) -> None:
        """Write a file atomically."""
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        tensors = {name: value.contiguous() for name, value in rows.items()}
        numbers = torch.tensor(records, dtype=torch.int64)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({**tensors, RECORDS: numbers}, beside, {"bad": json.dumps(bad)})
            beside.replace(path)
        except (OSError, SafetensorError) as error:
            raise TwinlensError(
                f"cannot keep embeddings in {path}: {error}; set TWINLENS_CACHE to a folder with"
                " room",
                code="cache_failed",
            ) from error
        finally:
            beside.unlink(missing_ok=True)

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[int, str]]:
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                bad = json.loads(file.metadata()["bad"])
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read: {error}; delete it and run again") from None
        return tensors, {int(record): why for record, why in bad.items()}
