"""Browsers: pages of other origins change nothing, and other names reach nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from twinlens.serving.admission.origin_guard import OriginGuard, list_hosts
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

BODY = {"texts": ["red"]}
FOREIGN = [
    {"origin": "http://evil.test"},
    {"origin": "null"},
    {"origin": "http://testserver:9999"},  # another port is another origin
    {"origin": "http://testserver.evil.test"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "http://evil.testserver"},
    {"sec-fetch-site": "cross-site", "origin": "http://testserver"},
]
OWN = [
    {},
    {"origin": "http://testserver"},
    {"origin": "https://TestServer"},
    {"origin": "http://testserver", "host": "testserver:80"},
    {"sec-fetch-site": "same-origin", "origin": "https://behind.a.proxy"},
    {"sec-fetch-site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_origin_can_change_nothing(
    client: TestClient, headers: dict[str, str]
) -> None:
    for method, path in (
        ("PUT", "/classifiers/x"),
        ("DELETE", "/classifiers/x"),
        ("POST", "/embed"),
    ):
        answer = client.request(method, path, headers=headers, json=BODY)
        assert answer.status_code == 403, (method, path)
        assert answer.json()["error"]["code"] == "origin_not_allowed"
    assert client.get("/classifiers").json()["data"] == []


@pytest.mark.parametrize("headers", FOREIGN)
def test_reading_is_left_to_cors(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.get("/healthz", headers=headers)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("headers", OWN)
def test_the_server_s_own_page_and_programs_are_answered(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.post("/embed", headers=headers, json=BODY).status_code == 200


@pytest.mark.parametrize("allowed", ["https://shop.test", "*"])
def test_a_page_of_an_allowed_origin_is_answered(
    make_client: Callable[..., TestClient], allowed: str
) -> None:
    client = make_client(ServerSettings(cors_origins=(allowed,)))
    headers = {"origin": "https://shop.test", "sec-fetch-site": "cross-site"}
    assert client.post("/embed", headers=headers, json=BODY).status_code == 200
    other = client.post("/embed", headers={**headers, "origin": "https://evil.test"}, json=BODY)
    assert other.status_code == (200 if allowed == "*" else 403)


JSON_ROUTES = [
    ("POST", "/embed"),
    ("POST", "/zeroshot"),
    ("POST", "/similarity"),
    ("POST", "/attention"),
    ("POST", "/v1/embeddings"),
    ("POST", "/embeddings"),
    ("POST", "/v2/embed"),
    ("POST", "/v1/multimodalembeddings"),
    ("PUT", "/classifiers/x"),
]


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", ""])
def test_json_is_read_only_under_a_json_type(
    client: TestClient, method: str, path: str, kind: str | None
) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = client.request(method, path, content=b'{"texts": ["red"]}', headers=headers)
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"]
)
def test_every_spelling_of_a_json_type_is_read(client: TestClient, kind: str) -> None:
    answer = client.post("/embed", content=b'{"texts": ["red"]}', headers={"content-type": kind})
    assert answer.status_code == 200


@pytest.fixture
def on_loopback(encoder: Any) -> Any:
    service = Service(ServerSettings(), lambda source, precision: encoder)
    service.load("colours", "colours")
    app = add_middleware(build_app(service), list_hosts("127.0.0.1", ["My-Box.lan"]))
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:80",
        "my-box.lan.",
        "my-box.lan",
    ],
)
def test_a_server_on_loopback_answers_to_its_names(on_loopback: TestClient, host: str) -> None:
    assert on_loopback.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.test", "127.0.0.1.nip.test", "localhost.evil.test", "192.168.1.1", "[::2]:80", "x]"],
)
def test_a_server_on_loopback_answers_to_no_other_name(on_loopback: TestClient, host: str) -> None:
    for path in ("/healthz", "/", "/metrics", "/classifiers"):
        answer = on_loopback.get(path, headers={"host": host})
        assert answer.status_code == 421
        assert "--allow-host" in answer.json()["error"]["message"]


def test_only_loopback_or_a_list_limits_the_names() -> None:
    assert list_hosts("0.0.0.0", []) == frozenset()
    assert "[::1]" in list_hosts("::1", [])
    assert list_hosts("127.0.0.5", []) == list_hosts("127.0.0.1", [])
    assert "api.test" in list_hosts("0.0.0.0", ["api.test"])
    assert "localhost" in list_hosts("0.0.0.0", ["api.test"])
    assert OriginGuard(frozenset(), frozenset()).find_fault("GET", [(b"host", b"any.test")]) is None
