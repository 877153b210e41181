"""Log lines: text as the standard formatter writes it, or JSON with times in milliseconds."""

from __future__ import annotations

import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from twinlens.serving.call import Call
from twinlens.serving.clock import Clock
from twinlens.serving.observe.logs import JsonFormatter, TextFormatter


def make_record(created: float = 1.0, **extra: object) -> logging.LogRecord:
    fields = {"msg": "POST /embed 200", "levelname": "INFO", "name": "twinlens.access"}
    record = logging.makeLogRecord(fields | extra)
    record.created = created
    record.msecs = int((created - int(created)) * 1000)
    return record


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=5))
def test_text_equals_the_standard_formatter(times: list[float]) -> None:
    ours = TextFormatter()
    standard = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    for created in times:
        record = make_record(created)
        assert ours.format(record) == standard.format(record)


def test_json_says_who_asked_of_what_how_much_and_for_how_long() -> None:
    call = Call(Clock(), 1.0, 1, model="photos", items=3, received_bytes=77)
    call.add("encode", 0.01)
    call.add("queue", 0.000256)
    scope = {"method": "POST", "client": ("10.0.0.7", 1), "state": {"key": "shop"}}
    exchange = (b"r1", scope, "/embed", 200, 0.0123456, call)
    line = json.loads(JsonFormatter().format(make_record(exchange=exchange)))
    assert (
        line.items()
        >= {
            "request_id": "r1",
            "client": "10.0.0.7",
            "key": "shop",
            "model": "photos",
            "items": 3,
            "bytes": 77,
            "status": 200,
            "milliseconds": 12.35,
            "stages": {"encode": 10.0, "queue": 0.26},
        }.items()
    )


def test_json_of_a_request_without_a_route_has_the_known_fields() -> None:
    scope = {"method": "GET", "state": {}}
    exchange = (b"r1", scope, "unmatched", 404, 0.001, None)
    line = json.loads(JsonFormatter().format(make_record(exchange=exchange)))
    assert line["status"] == 404
    assert "model" not in line
    assert "key" not in line


def test_json_of_other_lines_has_no_times() -> None:
    assert "milliseconds" not in json.loads(JsonFormatter().format(make_record()))
