"""Spans over OTLP, as a collector receives them from a server configured with its address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.testclient import TestClient

from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.observe.tracing import Tracer, start_exporting
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """A collector's HTTP endpoint that stores every received span."""

    def __init__(self) -> None:
        spans: list[Any] = []
        services: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    sent = ExportTraceServiceRequest.FromString(body)
                    for group in sent.resource_spans:
                        named = {a.key: a.value.string_value for a in group.resource.attributes}
                        services.append(named["service.name"])
                        for scope in group.scope_spans:
                            spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.spans = spans
        self.services = services
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_a_collector_receives_requests_and_their_stages(
    collector: Collector, encoder: Any, image: Any
) -> None:
    provider = start_exporting()
    service = Service(
        ServerSettings(tracing=True), lambda source, precision: encoder, tracer=Tracer(provider)
    )
    service.load("colours", "colours")
    headers = {"content-type": "image/png", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    with TestClient(add_middleware(build_app(service))) as client:
        assert client.post("/embed", content=image(), headers=headers).status_code == 200
        assert client.post("/embed", json={"texts": []}).status_code == 400
    provider.shutdown()  # sends the remaining spans, as at the end of the process

    assert set(collector.services) == {"twinlens"}
    roots = {
        a.value.int_value: s for s in collector.spans for a in s.attributes if "status" in a.key
    }
    assert set(roots) == {200, 400}
    good = roots[200]
    assert good.name == "POST /embed"
    assert good.trace_id.hex() == TRACE
    assert good.parent_span_id.hex() == PARENT
    stages = [span for span in collector.spans if span.parent_span_id == good.span_id]
    assert {"receive", "decode", "queue", "encode", "answer"} <= {span.name for span in stages}
    for span in stages:
        assert good.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= good.end_time_unix_nano


def test_an_unreachable_collector_fails_no_request(
    monkeypatch: pytest.MonkeyPatch, encoder: Any
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    provider = start_exporting()
    service = Service(ServerSettings(), lambda source, precision: encoder, tracer=Tracer(provider))
    service.load("colours", "colours")
    with TestClient(add_middleware(build_app(service))) as client:
        assert client.post("/embed", json={"texts": ["red"]}).status_code == 200
    provider.shutdown()
