"""WebDataset tars: files that share a stem are one sample (`0001.jpg`, `0001.txt`, `0001.cls`).

Headers are read once, and the listing of a large shard is kept. Each sample is then one seek away,
so shuffling and resuming need no buffer. What must stay true: damage in a shard loses only the
samples after it in that shard.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from twinlens.errors import InputError
from twinlens.training.data.listing.columns import RecordColumns, gather_columns, join_columns
from twinlens.training.data.listing.files import open_files
from twinlens.training.data.listing.kept import keep_listing
from twinlens.training.data.records import Record, is_image
from twinlens.training.data.rows import read_texts


@dataclass
class _Sample:
    offset: int = -1
    size: int = 0
    row: dict[str, object] = field(default_factory=dict)


class TarSource:
    """Samples of one or more uncompressed tars, in the order of the shards."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = [str(path) for path in paths]
        self.damage: dict[str, str] = {}  # shard -> its damage
        self._files = open_files(self.paths[0])
        parts = [self._list(path) for path in self.paths]
        if self.damage and not any(map(len, parts)):
            path, why = next(iter(self.damage.items()))
            raise InputError(f"{path} is not an uncompressed tar: {why}")
        self.records = join_columns(parts)
        self._shards = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self.starts = np.cumsum([0, *map(len, parts)])[:-1].tolist()  # first record of each shard

    def read(self, index: int) -> bytes:
        """Return the bytes of image `index`."""
        offset, size = self.records.places[index].tolist()
        return self._files.read(self.paths[self._shards[index]], offset, size)

    def expect(self, start: int, stop: int) -> None:
        """Announce that records `start` to `stop`, all in one shard, will be read soon."""
        first, (last, size) = self.records.places[start][0], self.records.places[stop - 1]
        path = self.paths[self._shards[start]]
        self._files.expect(path, int(first), int(last + size - first))

    def _list(self, path: str) -> RecordColumns:
        """Return the samples of a shard; note its damage."""
        facts = self._files.facts(path)
        try:
            return keep_listing(
                f"tar {path}", facts, lambda: self._scan(path), lambda: path not in self.damage
            )
        except OSError as error:
            self.damage[path] = str(error)
            return gather_columns([])

    def _scan(self, path: str) -> RecordColumns:
        samples: dict[str, _Sample] = {}
        with self._files.stream(path) as file:
            try:
                _read_members(samples, file)
            except (tarfile.TarError, ValueError, EOFError) as error:
                self.damage[path] = str(error)
        found = {stem: sample for stem, sample in samples.items() if sample.offset >= 0}
        name = path.rpartition("/")[2]
        records = [
            Record(f"{name}/{stem}", sample.size, **read_texts(sample.row))
            for stem, sample in found.items()
        ]
        return gather_columns(records, [(sample.offset, sample.size) for sample in found.values()])


def _read_members(samples: dict[str, _Sample], file: BinaryIO) -> None:
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if member.isfile():
                _add(samples, tar, member)
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes garbage for the end
            raise tarfile.ReadError(f"no header at byte {tar.offset}")


def _add(samples: dict[str, _Sample], tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Add one file of the tar to the sample that its stem names."""
    folder, _, leaf = member.name.rpartition("/")
    stem, _, suffix = leaf.partition(".")
    sample = samples.setdefault(f"{folder}/{stem}" if folder else stem, _Sample())
    if is_image("x." + suffix.rpartition(".")[2]):
        sample.offset, sample.size = member.offset_data, member.size
    elif suffix in ("txt", "cls", "json"):
        handle = tar.extractfile(member)
        assert handle is not None, "a regular file of a tar can be read. This is a bug"
        text = handle.read().decode("utf-8").strip()
        sample.row.update(json.loads(text) if suffix == "json" else {_KEY[suffix]: text})


_KEY = {"txt": "text", "cls": "cls"}
