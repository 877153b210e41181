"""Metrics of several processes, added up."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from twinlens.serving.workers.metric_sums import (
    Dump,
    add_dumps,
    dump_metrics,
    keep_counted,
    render_dump,
)


def make_dump(requests: int, seconds: float, ready: int) -> Dump:
    registry = CollectorRegistry()
    counted = Counter("twinlens_requests", "Requests", ["status"], registry=registry)
    counted.labels("200").inc(requests)
    counted.labels(f"4{requests:02}").inc()
    Histogram("twinlens_seconds", "Seconds", buckets=(1.0,), registry=registry).observe(seconds)
    Gauge("twinlens_ready", "Whether it serves", registry=registry).set(ready)
    Gauge("twinlens_collection_items", "Items", registry=registry).set(40)
    Gauge("twinlens_queue_items", "Items that wait", registry=registry).set(2)
    return dump_metrics(registry)


def read_values(text: bytes) -> dict[str, float]:
    lines = (line for line in text.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_counts_are_added_label_by_label_and_states_are_not() -> None:
    found = read_values(render_dump(add_dumps([make_dump(3, 0.5, 1), make_dump(4, 2.0, 0)])))
    assert found['twinlens_requests_total{status="200"}'] == 7
    assert found['twinlens_requests_total{status="403"}'] == 1
    assert found['twinlens_requests_total{status="404"}'] == 1
    assert found['twinlens_seconds_bucket{le="1.0"}'] == 1
    assert (found["twinlens_seconds_count"], found["twinlens_seconds_sum"]) == (2, 2.5)
    assert found["twinlens_ready"] == 0, "as ready as the least ready"
    assert found["twinlens_collection_items"] == 40, "all processes have the same collection"
    assert found["twinlens_queue_items"] == 4


def test_the_counts_of_an_ended_process_stay() -> None:
    found = read_values(render_dump(add_dumps([keep_counted(make_dump(3, 0.5, 1))])))
    assert found['twinlens_requests_total{status="200"}'] == 3
    assert not [name for name in found if "queue" in name or "ready" in name or "created" in name]


def test_one_dump_is_rendered_as_the_process_itself_would() -> None:
    found = read_values(render_dump(make_dump(3, 0.5, 1)))
    assert found['twinlens_requests_total{status="200"}'] == 3
    assert found["twinlens_queue_items"] == 2
