"""Log lines: text as the standard formatter writes it, or JSON with times in milliseconds."""

from __future__ import annotations

import json
import logging

from hypothesis import given
from hypothesis import strategies as st

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


def test_json_shows_milliseconds_and_stages() -> None:
    record = make_record(seconds=0.0123456, stages={"encode": 0.01, "queue": 0.000256}, status=200)
    line = json.loads(JsonFormatter().format(record))
    assert line["milliseconds"] == 12.35
    assert line["stages"] == {"encode": 10.0, "queue": 0.26}
    assert line["status"] == 200


def test_json_of_other_lines_has_no_times() -> None:
    assert "milliseconds" not in json.loads(JsonFormatter().format(make_record()))
