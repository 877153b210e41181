"""Class banks: class names and prompt templates to one unit row per class.

A class is the mean of its templates' embeddings, normalised again, as in CLIP's zero-shot protocol.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError

_CACHED_BANKS: Final = 16


def build_class_bank(
    embed: Callable[[list[str]], Rows], classes: Sequence[str], templates: Sequence[str]
) -> Rows:
    """Return one unit row per class (m, d): the mean over its templates, normalised again."""
    prompts = fill_templates(classes, templates)
    rows = embed(prompts).reshape(len(classes), len(templates), -1)
    return normalise_rows(rows.mean(axis=1))


def fill_templates(classes: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return every prompt, class by class; raise for invalid classes or templates."""
    if isinstance(classes, str) or not classes:
        raise InputError(
            "classes is empty; give at least one class name in a list", field="classes"
        )
    for i, name in enumerate(classes):
        if not isinstance(name, str) or not name.strip():
            raise InputError(
                f"classes[{i}] is {name!r}; a class needs a name", field=f"classes[{i}]"
            )
    if isinstance(templates, str) or not templates:
        raise InputError(
            "templates is empty; give a list such as ['a photo of a {}']", field="templates"
        )
    for i, template in enumerate(templates):
        if not isinstance(template, str) or template.count("{}") != 1:
            raise InputError(
                f"templates[{i}] is {template!r}; it must hold {{}} exactly once, where the "
                "name goes",
                field=f"templates[{i}]",
            )
    return [template.replace("{}", name) for name in classes for template in templates]


def normalise_rows(rows: Rows) -> Rows:
    """Return `rows` scaled to unit length; a row of zeros stays zero."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-12), dtype=np.float32)


class BankCache:
    """The most recently used class banks, by classes and templates. Thread-safe."""

    def __init__(self) -> None:
        self._banks: dict[tuple[tuple[str, ...], tuple[str, ...]], Rows] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple[tuple[str, ...], tuple[str, ...]], build: Callable[[], Rows]) -> Rows:
        """Return a read-only bank, built if it is not cached."""
        with self._lock:
            bank = self._banks.get(key)
        if bank is None:
            bank = build()
            bank.setflags(write=False)
            with self._lock:
                self._banks[key] = bank
                while len(self._banks) > _CACHED_BANKS:
                    self._banks.pop(next(iter(self._banks)))
        return bank
