"""The metrics of all processes as those of one server.

What must stay true: counters never go down while the server runs, whichever process ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

Dump = list[list[Any]]  # name, documentation, type, samples: [name, labels, value]

_LEAST = ("process_start_time_seconds", "process_max_fds", "twinlens_ready")
_GREATEST = ("twinlens_build", "twinlens_collection_items", "twinlens_collection_recall")
_COUNTED = ("counter", "histogram")


def dump_metrics(registry: CollectorRegistry) -> Dump:
    """Return the metrics of a process for another one."""
    return [
        [
            family.name,
            family.documentation,
            family.type,
            [[sample.name, sample.labels, sample.value] for sample in family.samples],
        ]
        for family in registry.collect()
    ]


def keep_counted(dump: Dump) -> Dump:
    """Return the metrics of a process that still count after its end."""
    return [
        [name, text, kind, [s for s in samples if not s[0].endswith("_created")]]
        for name, text, kind, samples in dump
        if kind in _COUNTED
    ]


def add_dumps(dumps: Iterable[Dump]) -> Dump:
    """Return the sums, family by family."""
    families: dict[str, tuple[str, str, dict[tuple[Any, ...], list[Any]]]] = {}
    for dump in dumps:
        for name, text, kind, samples in dump:
            _, _, found = families.setdefault(name, (text, kind, {}))
            for sample, labels, value in samples:
                key = (sample, *sorted(labels.items()))
                kept = found.setdefault(key, [sample, labels, None])
                kept[2] = _join(name, sample, kept[2], value)
    return [
        [name, text, kind, list(found.values())] for name, (text, kind, found) in families.items()
    ]


def _join(family: str, sample: str, left: float | None, right: float) -> float:
    if left is None:
        return right
    if family in _LEAST or sample.endswith("_created"):
        return min(left, right)
    return max(left, right) if family in _GREATEST else left + right


def render_dump(dump: Dump) -> bytes:
    """Return metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Given(dump))
    return generate_latest(registry)


class _Given:
    """A dump as a collector."""

    def __init__(self, dump: Dump) -> None:
        self._dump = dump

    def collect(self) -> Iterable[Metric]:
        """Yield the families."""
        for name, text, kind, samples in self._dump:
            family = Metric(name, text, kind)
            family.samples = [Sample(sample, labels, value) for sample, labels, value in samples]
            yield family
