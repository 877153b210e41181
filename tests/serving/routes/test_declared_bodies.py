"""What a hot path declares and what it reads are the same: both accept and refuse the same bodies.

Hot paths read their bodies by hand. Each is given bodies made by a seed, and stopped where it has
read one and asks for a model or a collection; the declared schema judges the same bodies.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jsonschema_rs
import orjson
import pytest
from starlette.requests import Request

from docs.draw_routes import read_operations
from tests.serving.routes.bodies import BodyMaker
from twinlens.errors import InputError, TooLargeError
from twinlens.serving.app import build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

BODIES = 2000
# Fields and codes of what no schema can say: a grammar, a vocabulary that is not there.
BEYOND_A_SCHEMA = {"filter", "token_ids"}


class AcceptedError(Exception):
    """The body was read."""


@contextmanager
def accept(*_: object) -> Iterator[NoReturn]:
    raise AcceptedError
    yield


def find(*_: object) -> NoReturn:
    raise AcceptedError


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return hot_app()[1]


def hot_app() -> tuple[dict[str, HotRoute], dict[str, Any]]:
    """Return the hot routes and the document of a server that accepts whatever it reads."""
    service = Service(ServerSettings(), find)
    service.registry.lease = accept  # type: ignore[method-assign, assignment]
    store = CollectionStore(None)
    store.find = find  # type: ignore[method-assign, assignment]
    app = build_app(service, build_routers(service, store))
    return app.state.hot_routes, app.openapi()


def ask(route: HotRoute, body: bytes) -> str:
    """Return `accepted`, or why it was refused: the field, the code and the message."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    scope = {
        "type": "http",
        "method": "POST",
        "path": route.path,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "state": {"request_id": "x"},
    }
    try:
        asyncio.run(route.endpoint(Request(scope, receive)))
    except AcceptedError:
        return "accepted"
    except (InputError, TooLargeError) as error:
        return f"refused {error.field} {error.code}: {error.message}"
    raise AssertionError("answered without a model")


def list_hot_json() -> list[str]:
    """Return the hot paths that read JSON."""
    operations = read_operations()
    documented = {path for _, path in operations}
    return [
        path
        for path in hot_app()[0]
        if path in documented
        and "application/json" in operations["post", path]["requestBody"]["content"]
    ]


@pytest.mark.parametrize("path", list_hot_json())
def test_a_hot_path_refuses_what_its_declaration_refuses_and_nothing_else(
    path: str, document: dict[str, Any]
) -> None:
    routes, _ = hot_app()
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    whole = {**content["schema"], "components": document["components"]}
    judge = jsonschema_rs.validator_for(whole)
    maker = BodyMaker(document["components"]["schemas"], seed=17)
    counted: Counter[bool] = Counter()
    for _ in range(BODIES):
        body = maker.make(content["schema"])
        told = ask(routes[path], orjson.dumps(body))
        if BEYOND_A_SCHEMA & set(told.partition(":")[0].split()):
            continue
        allowed = judge.is_valid(body)
        counted[allowed] += 1
        assert (told == "accepted") == allowed, (body, told, [*map(str, judge.iter_errors(body))])
    assert min(counted[True], counted[False]) > BODIES / 10, counted


def test_a_reader_that_drifts_from_its_declaration_is_detected(document: dict[str, Any]) -> None:
    """A schema with one option fewer, as after a change of the reader alone."""
    routes, _ = hot_app()
    shapes = document["components"]["schemas"]
    narrow = {**shapes["EmbedRequest"], "properties": {**shapes["EmbedRequest"]["properties"]}}
    del narrow["properties"]["precision"]
    judge = jsonschema_rs.validator_for({**narrow, "components": document["components"]})
    maker = BodyMaker(shapes, seed=17)
    bodies = [maker.make(shapes["EmbedRequest"]) for _ in range(200)]
    differ = [
        body
        for body in bodies
        if (ask(routes["/embed"], orjson.dumps(body)) == "accepted") != judge.is_valid(body)
    ]
    assert differ
