"""Settings, logs and spans."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twinlens.errors import InputError
from twinlens.serving.observe.logs import JsonFormatter
from twinlens.serving.observe.tracing import Tracer
from twinlens.serving.settings import ServerSettings, list_names, override


def test_any_setting_is_set_by_its_name() -> None:
    settings = override(ServerSettings(), "limits.items", "64")
    settings = override(settings, "fetching.ports", "80,8080")
    settings = override(settings, "cors_origins", "https://a.test,https://b.test")
    settings = override(settings, "watch.drain_notice", "0.5")
    settings = override(settings, "tracing", "true")
    assert settings.limits.items == 64
    assert settings.fetching.ports == (80, 8080)
    assert settings.cors_origins == ("https://a.test", "https://b.test")
    assert settings.watch.drain_notice == 0.5
    assert settings.tracing is True


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("limits.itms", "6", "did you mean 'limits.items'"),
        ("limits", "6", "not a setting"),
        ("limits.items", "many", "whole number"),
        ("tracing", "perhaps", "true or false"),
        ("keys", "admin:12345678", "not a setting"),
        ("limits.items.more", "6", "not a setting"),
        ("limits.items", "-5", "at least 1"),
        ("limits.image_queue", "-1", "at least 0"),
        ("batching.image_batch", "-1", "at least 0"),
        ("batching.text_buckets", "8,0", "at least 1"),
        ("limits.request_seconds", "nan", "above 0"),
        ("limits.body_seconds", "0", "above 0"),
        ("watch.drain_notice", "inf", "at least 0"),
        ("limits.formats", "jpeg,psd", "choose from jpeg"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(name: str, value: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        override(ServerSettings(), name, value)


def test_the_docs_list_every_setting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    missing = [name for name in list_names(ServerSettings()) if f"`{name}`" not in page]
    assert missing == []


def test_a_log_line_is_one_json_object_with_the_request(
    run_server: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(http: Any, service: Any) -> None:
        with caplog.at_level(logging.INFO, "twinlens.access"):
            await http.post("/embed", json={"texts": ["red"]}, headers={"x-request-id": "r1"})

    run_server(scenario)
    (record,) = [r for r in caplog.records if r.name == "twinlens.access"]
    line = json.loads(JsonFormatter().format(record))
    assert (line["request_id"], line["path"], line["status"]) == ("r1", "/embed", 200)
    assert set(line["stages"]) >= {"receive", "queue", "encode"}
    assert (line["model"], line["items"], line["bytes"]) == ("colours", 1, 17)
    assert "red" not in json.dumps(line)


def test_a_traced_request_is_a_span_with_its_stages_under_the_callers_trace(
    run_server: Callable[..., Any],
) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace = "0af7651916cd43dd8448eb211c80319c"

    async def scenario(http: Any, service: Any) -> None:
        service.tracer = Tracer(provider)
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        await http.post("/embed", json={"texts": ["red"]}, headers=headers)

    run_server(scenario)
    found = {span.name: span for span in spans.get_finished_spans()}
    request = found["POST /embed"]
    assert f"{request.context.trace_id:032x}" == trace
    assert {"receive", "queue", "encode"} <= set(found)
    parent, attributes = found["encode"].parent, request.attributes
    assert parent is not None
    assert parent.span_id == request.context.span_id
    assert attributes is not None
    assert attributes["http.response.status_code"] == 200
