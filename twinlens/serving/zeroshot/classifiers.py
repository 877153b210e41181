"""Stored class sets by name and bundle revision, one file each, reloaded after a restart.

A classifier is acknowledged only when its file is on disk. File names are digests, never what a
client sent. What must stay true: a classifier is used only with the revision it was built with.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from twinlens.bundle.class_head import ClassHead
from twinlens.bundle.classes import normalise_rows
from twinlens.errors import ConflictError, InputError, NotFoundError
from twinlens.serving.contracts import StagedEncoder
from twinlens.serving.files import remove_file, write_file
from twinlens.serving.zeroshot.banks import ClassBank

log = logging.getLogger("twinlens.serving")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, eq=False)
class Classifier:
    """A bank with its name and the templates and examples it was built from."""

    name: str
    revision: str
    bank: ClassBank
    created: float
    templates: tuple[str, ...] = ()
    examples: int = 0
    bundled: bool = False  # it came with the model's bundle

    def describe(self) -> dict[str, Any]:
        """Return the fields that a client may see."""
        return {
            "object": "classifier",
            "name": self.name,
            "revision": self.revision,
            "classes": list(self.bank.names),
            "templates": list(self.templates),
            "examples": self.examples,
            "created": self.created,
        }


class ClassifierStore:
    """The classifiers of a server, in memory and, where there is a folder, on disk."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._classifiers: dict[tuple[str, str], Classifier] = {}
        self._changing = threading.Lock()  # files and memory change together; reads take no lock
        if folder is not None and folder.is_dir():
            for path in sorted(folder.glob("*.npz")):
                self._read(path)

    def put(self, classifier: Classifier) -> bool:
        """Store a classifier; return whether it replaced another."""
        key = (classifier.name, classifier.revision)
        content = pack(classifier)
        with self._changing:
            if self._folder is not None:
                write_file(self._path(*key), content)
            is_new = key not in self._classifiers
            self._classifiers[key] = classifier
            return not is_new

    def offer(self, encoder: StagedEncoder, created: float) -> None:
        """Keep the classifiers that come with a bundle, unless clients stored ones of their names.

        They are not written: the bundle has them.
        """
        with self._changing:
            for head in encoder.class_heads:
                found = open_head(head, encoder.revision, created)
                self._classifiers.setdefault((found.name, found.revision), found)

    def get(self, name: str, revision: str) -> Classifier:
        """Return the classifier of this revision; an error names other revisions, if any."""
        found = self._classifiers.get((name, revision))
        if found is not None:
            return found
        others = [r for n, r in list(self._classifiers) if n == name]
        if others:
            raise ConflictError(
                f"classifier {name!r} was built with revision {others[0][:12]}, the model is "
                f"{revision[:12]}; PUT it again",
                field="classifier",
            )
        raise NotFoundError(
            f"classifier {name[:64]!r} does not exist; PUT /classifiers/NAME makes one",
            field="classifier",
        )

    def find(self, name: str) -> list[Classifier]:
        """Return a classifier in every revision that it was built with."""
        found = [one for (n, _), one in list(self._classifiers.items()) if n == name]
        if not found:
            raise NotFoundError(f"classifier {name[:64]!r} does not exist", field="classifier")
        return found

    def all(self) -> list[Classifier]:
        """Return all, by name."""
        return [one for _, one in sorted(self._classifiers.items(), key=lambda item: item[0])]

    def remove(self, name: str) -> None:
        """Delete a classifier in every revision."""
        with self._changing:
            found = self.find(name)
            if all(classifier.bundled for classifier in found):
                raise ConflictError(
                    f"classifier {name!r} belongs to its model and cannot be deleted; to"
                    f" replace it, PUT /classifiers/{name}",
                    field="name",
                )
            for classifier in found:
                if classifier.bundled:
                    continue
                if self._folder is not None:
                    remove_file(self._path(name, classifier.revision))
                del self._classifiers[(name, classifier.revision)]

    def _path(self, name: str, revision: str) -> Path:
        assert self._folder is not None
        digest = hashlib.sha256(f"{name}\0{revision}".encode()).hexdigest()
        return self._folder / f"{digest[:40]}.npz"

    def _read(self, path: Path) -> None:
        """Read one file; a damaged one is logged and left in place."""
        try:
            classifier = unpack(path.read_bytes())
        except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
            log.error("classifier file %s cannot be read and is skipped: %s", path, error)
            return
        self._classifiers[(classifier.name, classifier.revision)] = classifier


def open_head(head: ClassHead, revision: str, created: float) -> Classifier:
    """Return the classifier that comes with a bundle; its neutral row is the mean of its classes.

    The head was not trained on images of other classes.
    """
    neutral = normalise_rows(head.rows.mean(axis=0, keepdims=True))[0]
    bank = ClassBank(head.classes, head.rows, neutral)
    return Classifier(check_name(head.name), revision, bank, created, bundled=True)


def check_name(name: str) -> str:
    """Return `name` if it is a valid name of a classifier."""
    if not _NAME.fullmatch(name):
        raise InputError(
            "a name consists of 1 to 64 letters, digits, dots, hyphens and underscores, and "
            "begins with a letter or digit",
            field="name",
        )
    return name


def pack(classifier: Classifier) -> bytes:
    """Return the bytes of a classifier's file: plain arrays, no pickle."""
    about = {
        "name": classifier.name,
        "revision": classifier.revision,
        "classes": classifier.bank.names,
        "templates": classifier.templates,
        "examples": classifier.examples,
        "created": classifier.created,
    }
    file = io.BytesIO()
    np.savez(
        file,
        rows=classifier.bank.rows,
        neutral=classifier.bank.neutral,
        about=np.frombuffer(orjson.dumps(about), np.uint8),
    )
    return file.getvalue()


def unpack(content: bytes) -> Classifier:
    """Return the classifier in a file's bytes."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        about = orjson.loads(arrays["about"].tobytes())
        rows, neutral = arrays["rows"], arrays["neutral"]
    if len(rows) != len(about["classes"]) or rows.shape[1:] != neutral.shape:
        raise ValueError("its rows and its classes do not agree")
    return Classifier(
        name=about["name"],
        revision=about["revision"],
        bank=ClassBank(tuple(about["classes"]), rows, neutral),
        created=about["created"],
        templates=tuple(about["templates"]),
        examples=about["examples"],
    )
