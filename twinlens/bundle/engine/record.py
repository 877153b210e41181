"""Remembers measurements of this machine: each tower's engine, and the times of its batches.

A record is keyed by machine, device, number of threads, bundle revision, tower, precision and
package versions. What must stay true: a record that cannot be read or written only costs a
measurement; nothing is written outside the cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from twinlens.bundle.engine.batch_curve import BatchCurve
from twinlens.bundle.engine.choice import Choice, Contender
from twinlens.cache import find_cache

FILE_NAME = "engines.json"
BATCH_FILE = "batches.json"
_MOST = 512  # records kept per file; the oldest are dropped
_CPU_INFO = Path("/proc/cpuinfo")
_TELLING = ("model name", "flags", "CPU part", "Features")  # what distinguishes one kind of CPU


@dataclass(frozen=True)
class Subject:
    """What was measured: a tower on one kind of device, and an engine if it was chosen."""

    revision: str
    tower: str
    precision: str
    threads: int
    versions: tuple[str, ...]
    device: str = "cpu"  # or a GPU, by its driver's name
    engine: str = ""

    @property
    def key(self) -> str:
        """The name of this subject on this machine."""
        parts = [*map(str, asdict(self).values()), describe_machine()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def describe_machine(info: Path = _CPU_INFO) -> str:
    """Return what distinguishes this kind of CPU: its model and its instructions."""
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    facts = {name.strip(): value.strip() for name, _, value in (s.partition(":") for s in lines)}
    told = [facts[name] for name in _TELLING if name in facts]
    return "\n".join([platform.machine(), *(told or [platform.processor()])])


def read_choice(subject: Subject) -> Choice | None:
    """Return the remembered choice, or None if none can be read."""
    entry = _read_all(FILE_NAME).get(subject.key)
    if not isinstance(entry, dict):
        return None
    try:
        cosine = entry["cosine"]
        choice = Choice(
            entry["engine"],
            str(entry["reason"]),
            None if cosine is None else float(cosine),
            tuple(map(float, entry["speedups"])),
        )
    except (KeyError, TypeError, ValueError):
        return None
    return choice if choice.engine in get_args(Contender) else None


def write_choice(subject: Subject, choice: Choice) -> None:
    """Remember a choice; a folder that cannot be written is no failure."""
    _write(FILE_NAME, subject, asdict(choice))


def read_curve(subject: Subject) -> BatchCurve | None:
    """Return the remembered times of batches, or None if none can be read."""
    entry = _read_all(BATCH_FILE).get(subject.key) or {}
    try:
        points = tuple((int(size), float(seconds)) for size, seconds in entry["points"])
        return BatchCurve(points)
    except (KeyError, TypeError, ValueError):
        return None


def write_curve(subject: Subject, curve: BatchCurve) -> None:
    """Remember the times of batches; a folder that cannot be written is no failure."""
    _write(BATCH_FILE, subject, {"points": curve.points, "knee": curve.knee})


def _write(name: str, subject: Subject, measured: dict[str, Any]) -> None:
    entries = _read_all(name)
    entries.pop(subject.key, None)
    told = asdict(subject)
    del told["versions"]
    entries[subject.key] = told | measured
    kept = dict(list(entries.items())[-_MOST:])
    path = find_cache() / name
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps(kept, indent=1))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _read_all(name: str) -> dict[str, Any]:
    try:
        found = json.loads((find_cache() / name).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
