"""API keys: scopes, and which paths need none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from twinlens.errors import InputError, OverloadedError
from twinlens.serving.clock import Clock
from twinlens.serving.keys import Keyring, parse_keys
from twinlens.serving.settings import Limits, ServerSettings

READ, WRITE, ADMIN = "reader-key", "writer-key", "admin-key"
# Paths that need no key, since they reveal only that the server exists.
OPEN = {"/healthz", "/readyz", "/health", "/ping", "/docs", "/openapi.json"}


@pytest.fixture
def guarded(make_client: Callable[..., TestClient]) -> TestClient:
    text = f"read:{READ}  # the shop\nwrite:{WRITE}, admin:{ADMIN}\n"
    return make_client(ServerSettings(keys=parse_keys(text)))


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_key_is_accepted_as_bearer_or_as_header(guarded: TestClient) -> None:
    body = {"texts": ["red"]}
    assert guarded.post("/embed", json=body).status_code == 401
    assert guarded.post("/embed", json=body, headers=bearer(READ)).status_code == 200
    assert guarded.post("/embed", json=body, headers={"x-api-key": READ}).status_code == 200
    answer = guarded.post("/embed", json=body, headers=bearer("wrong-key"))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "wrong-key" not in answer.text


def test_a_scope_includes_the_lower_ones_only(guarded: TestClient) -> None:
    body = {"classes": ["red"]}
    assert guarded.put("/classifiers/x", json=body, headers=bearer(READ)).status_code == 403
    assert guarded.put("/classifiers/x", json=body, headers=bearer(WRITE)).status_code == 201
    assert guarded.put("/v1/models/x", json={}, headers=bearer(WRITE)).status_code == 403
    assert guarded.get("/classifiers", headers=bearer(ADMIN)).status_code == 200


def test_every_path_but_the_listed_ones_needs_a_key(guarded: TestClient) -> None:
    paths: dict[str, Any] = guarded.get("/openapi.json").json()["paths"]
    asked = 0
    for path, methods in paths.items():
        for method in methods:
            if path in OPEN or (method, path) == ("get", "/"):
                continue
            asked += 1
            answer = guarded.request(method, path.replace("{", "").replace("}", ""))
            assert answer.status_code == 401, (method, path)
    assert asked >= 12


def test_without_keys_admin_endpoints_are_disabled(client: TestClient) -> None:
    assert client.post("/embed", json={"texts": ["a"]}).status_code == 200
    answer = client.put("/v1/models/colours", json={})
    assert answer.status_code == 403
    assert "admin key" in answer.json()["error"]["message"]


@pytest.mark.parametrize("text", ["read", "root:longenough", "read:short", "read: spaced-key"])
def test_a_malformed_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_keys(text)
    assert "longenough" not in caught.value.message


class HandClock(Clock):
    """Time that passes when told to."""

    time = 0.0

    def now(self) -> float:
        return self.time


def test_a_key_may_send_one_minutes_requests_at_once_and_then_at_its_rate() -> None:
    clock = HandClock()
    keyring = Keyring(parse_keys("shop=read:reader-key read:another-key"), 6, clock)
    shop = {"x-api-key": "reader-key"}
    assert [keyring.check(shop, "read") for _ in range(6)] == ["shop"] * 6
    with pytest.raises(OverloadedError, match="6 requests a minute") as refused:
        keyring.check(shop, "read")
    assert refused.value.retry_after == pytest.approx(10)
    assert keyring.check({"x-api-key": "another-key"}, "read") == ""  # waits for nobody
    clock.time = 10.0
    keyring.check(shop, "read")
    with pytest.raises(OverloadedError):
        keyring.check(shop, "read")
    clock.time = 10_000.0  # no more than a minute's worth is saved
    for _ in range(6):
        keyring.check(shop, "read")
    with pytest.raises(OverloadedError):
        keyring.check(shop, "read")


def test_a_key_beyond_its_rate_gets_429_with_the_time_to_wait(
    make_client: Callable[..., TestClient],
) -> None:
    settings = ServerSettings(
        keys=parse_keys("shop=read:reader-key"), limits=Limits(key_requests_per_minute=2)
    )
    client = make_client(settings)
    ask: dict[str, Any] = {"json": {"texts": ["red"]}, "headers": bearer(READ)}
    assert [client.post("/embed", **ask).status_code for _ in range(3)] == [200, 200, 429]
    assert int(client.post("/embed", **ask).headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    "entry", ["sh op=read:reader-key", "shop=eat:reader-key", "a/b=read:12345678"]
)
def test_a_wrong_entry_is_named_without_its_secret(entry: str) -> None:
    with pytest.raises(InputError, match="NAME=SCOPE:KEY") as refused:
        parse_keys(entry)
    assert "reader-key" not in refused.value.message
