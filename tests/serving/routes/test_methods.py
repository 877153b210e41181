"""Methods: HEAD wherever GET is, and every method of a path named where another is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from docs.draw_routes import read_operations
from tests.serving.admission.wire import exchange, statuses
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

OPERATIONS = read_operations()


@pytest.fixture
def client(encoder: Any, tmp_path: Path) -> Iterator[TestClient]:
    store = CollectionStore(tmp_path)
    service = Service(ServerSettings(), lambda source, precision: encoder)
    service.load("colours", "colours")
    with TestClient(add_middleware(build_app(service, build_routers(service, store)))) as opened:
        opened.put("/collections/photos", json={})
        yield opened
    store.close()


def fill(path: str) -> str:
    return path.replace("{name}", "photos").replace("{id}", "x")


@pytest.mark.parametrize("path", [*sorted({p for _, p in OPERATIONS}), "/", "/docs"])
def test_a_405_lists_every_method_of_the_path(client: TestClient, path: str) -> None:
    told = client.request("TRACE", fill(path))
    assert told.status_code == 405
    named = {method.upper() for method, p in OPERATIONS if p == path}
    named |= {"GET"} if path in ("/", "/docs") else set()
    expected = named | ({"HEAD"} if "GET" in named else set())
    assert set(told.headers["allow"].split(", ")) == expected


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/v1/models", "/", "/nothing", "/embed"]
)
def test_head_is_answered_as_get_is(client: TestClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert head.status_code == got.status_code
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # which counts these very requests
        assert head.headers["content-length"] == got.headers["content-length"]


def test_head_has_no_body_on_the_wire_and_is_counted_under_its_path(
    listen: Callable[[ServerSettings], Any],
) -> None:
    server = listen(ServerSettings())
    head = b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with server.connect() as sock:
        sock.sendall(head)
        first = sock.recv(65536)
        assert first.startswith(b"HTTP/1.1 200")
        assert first.endswith(b"\r\n\r\n")
    told = exchange(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(told) == [200]
    assert b'twinlens_requests_total{path="/healthz",status="200"}' in told[0].body


@pytest.mark.parametrize("given", ["soon", "", "-1", "1e3", "1s", "inf", "nan", "1,5"])
def test_a_timeout_that_is_no_number_of_seconds_is_a_400(client: TestClient, given: str) -> None:
    answer = client.post("/embed", json={"texts": ["a"]}, headers={"twinlens-timeout": given})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "Twinlens-Timeout"
