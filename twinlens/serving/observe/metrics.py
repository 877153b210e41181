"""The server's Prometheus metrics; labels are never built from what a client sent."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from twinlens.version import __version__

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one server, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info("twinlens_build", "The version that runs", registry=self.registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        self._children: dict[tuple[int, tuple[str, ...]], Any] = {}
        self._refused: dict[str, int] = {}  # refused on arrival, by path, not yet in the counters
        self._requests = Counter(
            "twinlens_requests", "Requests answered", ["path", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "twinlens_request_seconds",
            "Time from the first byte to the answer",
            ["path", "model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "twinlens_stage_seconds",
            "Time a request spent in one stage",
            ["model", "stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "twinlens_batch_items",
            "Items in a batch",
            ["model", "tower"],
            buckets=_BATCHES,
            registry=self.registry,
        )
        self._encode = Histogram(
            "twinlens_batch_seconds",
            "Time a batch took to encode",
            ["model", "tower"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._failures = Counter(
            "twinlens_failed_items", "Items that failed", ["model", "code"], registry=self.registry
        )
        self._rejects = Counter(
            "twinlens_rejects",
            "Requests refused because a queue or a limit was full",
            ["model", "at"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "twinlens_requests_in_flight", "Requests being answered", registry=self.registry
        )

    def count_request(self, path: str, status: int, seconds: float, model: str = "") -> None:
        """Count one answered request; `model` is the one that answered, if any did."""
        self._child(self._requests, path, str(status)).inc()
        self._child(self._seconds, path, model).observe(seconds)

    def count_refusal(self, path: str) -> None:
        """Count one request that was refused on arrival.

        Under a flood of refusals counting has to be cheap; their times say nothing about answered
        requests, so they are in no histogram.
        """
        self._refused[path] = self._refused.get(path, 0) + 1

    def count_reject(self, model: str, at: str) -> None:
        """Count one request that did not fit into a queue of a model."""
        self._child(self._rejects, model, at).inc()

    def count_stages(self, model: str, stages: dict[str, float]) -> None:
        """Count the time that one request spent in each stage."""
        for stage, seconds in stages.items():
            self._child(self._stages, model, stage).observe(seconds)

    def count_batch(self, model: str, tower: str, items: int, seconds: float) -> None:
        """Count one batch."""
        self._batches.labels(model, tower).observe(items)
        self._encode.labels(model, tower).observe(seconds)

    def count_failure(self, model: str, code: str) -> None:
        """Count one item that failed."""
        self._failures.labels(model, code).inc()

    def _child(self, family: Any, *labels: str) -> Any:
        """Return the counter for these labels; the library's own lookup is slow."""
        key = (id(family), labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*labels)
        return child

    def watch(self, read: Callable[[], Iterable[Metric]]) -> None:
        """Call `read` for more metrics at each collection."""
        self.registry.register(_Reader(read))

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.settle())

    def settle(self) -> CollectorRegistry:
        """Return the registry, with the refusals that were counted outside it."""
        refused, self._refused = self._refused, {}
        for path, count in refused.items():
            self._child(self._requests, path, "429").inc(count)
            self._child(self._rejects, "", "admission").inc(count)
        return self.registry


class _Reader:
    """Metrics that are read from elsewhere at each collection."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return self._read()


def gauge(
    name: str, text: str, labels: list[str], values: Iterable[tuple[list[str], float]]
) -> GaugeMetricFamily:
    """Return a gauge with a value for each set of labels."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family


def counter(
    name: str, text: str, labels: list[str], values: Iterable[tuple[list[str], float]]
) -> CounterMetricFamily:
    """Return a counter with a value for each set of labels."""
    family = CounterMetricFamily(name, text, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family
