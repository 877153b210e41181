"""WebDataset tars: files that share a stem are one sample (`0001.jpg`, `0001.txt`, `0001.cls`).

Headers are read once; then a sample is a seek away, so that shuffling and resuming need no buffer.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from twinlens.errors import InputError
from twinlens.training.data.records import Record, is_image
from twinlens.training.data.rows import read_texts


@dataclass
class _Sample:
    offset: int = -1
    size: int = 0
    row: dict[str, object] = field(default_factory=dict)


class TarSource:
    """Samples of one or more uncompressed tars, in the order of the shards."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self._places: list[tuple[int, int, int]] = []  # shard, offset, size
        self.records: list[Record] = []
        for shard, path in enumerate(paths):
            for stem, sample in _scan(path).items():
                if sample.offset < 0:
                    continue
                self._places.append((shard, sample.offset, sample.size))
                name = f"{path.name}/{stem}"
                self.records.append(Record(name, sample.size, **read_texts(sample.row)))

    def read(self, index: int) -> bytes:
        """Return the bytes of image `index`; opened anew, so that threads share no position."""
        shard, offset, size = self._places[index]
        with self.paths[shard].open("rb") as file:
            file.seek(offset)
            return file.read(size)


def _scan(path: Path) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isfile():
                    _add(samples, tar, member)
    except tarfile.TarError as error:
        raise InputError(f"{path} is not an uncompressed tar: {error}") from None
    return samples


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
