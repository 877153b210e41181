"""What a method needs of its data, checked before anything is written or trained."""

from __future__ import annotations

from typing import Any

from twinlens.errors import InputError
from twinlens.training.config import Config
from twinlens.training.data.records import DataSource


def check_needs(source: DataSource, config: Config) -> list[str]:
    """Return the labels in order; refuse data that lack what the method needs."""
    records = source.records
    if "labels" in config.objective.needs:
        _check_all(records, [bool(record.label) for record in records], config, "a label", LABELS)
    if "captions" in config.objective.needs:
        has = [bool(record.captions) for record in records]
        _check_all(records, has, config, "a caption", CAPTIONS)
    return sorted({record.label for record in records if record.label})


LABELS = "folders named by class, or `cls` in the index"
CAPTIONS = "`caption` or `captions` in the index, or NAME.txt beside NAME.jpg"


def _check_all(records: Any, has: list[bool], config: Config, what: str, remedy: str) -> None:
    missing = len(has) - sum(has)
    if missing:
        first = records[has.index(False)].key
        raise InputError(
            f"{config.method} needs {what} for each image, but {missing} of {len(has)} have none"
            f" (the first is {first}); give {remedy}",
            field="DATA",
        )
