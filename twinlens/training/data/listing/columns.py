"""Records as columns: a few arrays hold millions of them, and a `Record` is made on access.

What must stay true: a record made from columns equals the record that went in.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from twinlens.training.data.records import Record

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class RecordColumns(Sequence[Record]):
    """Records of one listing; `places` (n, 2) are byte ranges, if records share files."""

    keys: Sequence[str]
    sizes: Integers
    codes: Integers  # of labels; -1 where there is none
    labels: Sequence[str]
    texts: Mapping[int, tuple[tuple[str, ...], tuple[str, ...]]]  # captions and negatives
    places: Integers

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        """Make a record, or several."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = index + len(self) if index < 0 else index
        code = int(self.codes[index])
        captions, negatives = self.texts.get(index, ((), ()))
        label = None if code < 0 else self.labels[code]
        return Record(self.keys[index], int(self.sizes[index]), label, captions, negatives)

    def __iter__(self) -> Iterator[Record]:
        labels = [*self.labels, None]  # code -1 stands last
        columns = zip(self.keys, self.sizes.tolist(), self.codes.tolist(), strict=True)
        if not self.texts:
            return (Record(key, size, labels[code]) for key, size, code in columns)
        return (
            Record(key, size, labels[code], *self.texts.get(index, ((), ())))
            for index, (key, size, code) in enumerate(columns)
        )

    def to_bytes(self, facts: Any) -> bytes:
        """Return the columns as a file, with `facts` about what they list."""
        texts = [(index, *both) for index, both in self.texts.items()]
        content = {"labels": list(self.labels), "texts": texts}
        arrays: dict[str, Any] = {
            "facts": _blob(json.dumps(facts)),
            "content": _blob(json.dumps(content)),
            "keys": _blob("\n".join(self.keys)),
            "sizes": self.sizes,
            "codes": self.codes,
            "places": self.places,
        }
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()


def read_columns(path: Path, facts: Any) -> RecordColumns | None:
    """Return the columns of a file if its facts equal these; else None."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if json.loads(arrays["facts"].tobytes()) != facts:
                return None
            content = json.loads(arrays["content"].tobytes())
            keys = arrays["keys"].tobytes().decode().split("\n") if len(arrays["sizes"]) else []
            texts = {index: (tuple(own), tuple(wrong)) for index, own, wrong in content["texts"]}
            return RecordColumns(
                keys, arrays["sizes"], arrays["codes"], content["labels"], texts, arrays["places"]
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def gather_columns(
    records: Iterable[Record], places: Iterable[tuple[int, int]] = ()
) -> RecordColumns:
    """Return records as columns."""
    keys, sizes, codes = [], [], []
    numbers: dict[str, int] = {}
    texts = {}
    for index, record in enumerate(records):
        keys.append(record.key)
        sizes.append(record.size)
        known = record.label is not None
        codes.append(numbers.setdefault(record.label or "", len(numbers)) if known else -1)
        if record.captions or record.negatives:
            texts[index] = (record.captions, record.negatives)
    where = np.array(list(places), np.int64).reshape(-1, 2)
    return RecordColumns(keys, _integers(sizes), _integers(codes), list(numbers), texts, where)


def join_columns(parts: Sequence[RecordColumns]) -> RecordColumns:
    """Return the columns of several listings, one after another."""
    if len(parts) == 1:
        return parts[0]
    numbers: dict[str, int] = {}
    codes, start = [], 0
    texts: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for part in parts:
        own = [numbers.setdefault(label, len(numbers)) for label in part.labels]
        codes.append(np.array([*own, -1], np.int64)[part.codes])
        texts |= {start + index: both for index, both in part.texts.items()}
        start += len(part)
    return RecordColumns(
        [key for part in parts for key in part.keys],
        np.concatenate([part.sizes for part in parts]),
        np.concatenate(codes),
        list(numbers),
        texts,
        np.concatenate([part.places for part in parts]),
    )


def can_hold(record: Record) -> bool:
    """Tell whether a record's key fits on one line."""
    return "\n" not in record.key


def _integers(values: list[int]) -> Integers:
    return np.array(values, np.int64)


def _blob(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)
