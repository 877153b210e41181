"""A new path and a new field of it are declared in one file; all the rest comes from there."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.testclient import TestClient

from docs.draw_routes import draw_table
from twinlens.errors import OverloadedError
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.openapi.declaration import answer, declare, json_body
from twinlens.serving.openapi.document import list_operations
from twinlens.serving.openapi.request_shapes import names_of, request_object
from twinlens.serving.openapi.schemas import COUNT, TEXT, closed_object, component
from twinlens.serving.requests.answers import dump
from twinlens.serving.requests.fields import parse_object
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits, ServerSettings

# All that a route file holds: its body, its answer, its errors, an example, and its function.
REQUEST = component("CountRequest", request_object(["text"], text=TEXT, times=COUNT))
ANSWER = component("CountAnswer", closed_object(["count"], count=COUNT))


def build_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["counting"], route_class=HotRoute)

    @router.post(
        "/count",
        **declare(
            {200: answer(ANSWER, "The number of characters")},
            json_body(REQUEST, short={"text": "red"}),
            message_field="reason",
        ),
    )
    async def count(request: Request) -> Response:
        """Count characters."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            fields.only(*names_of(REQUEST))
            times = fields.integer("times", 0, 9)
            text = fields.texts("texts", 1, 1) or [fields.text("text") or ""]
            found = len(text[0]) * (1 if times is None else times)
        return Response(dump({"count": found}), media_type="application/json")

    return router


@pytest.fixture
def service(encoder: Any) -> Service:
    settings = ServerSettings(limits=Limits(requests_in_flight=1))
    made = Service(settings, lambda source, precision: encoder)
    made.load("colours", "colours")
    return made


@pytest.fixture
def counting(service: Service) -> Any:
    with TestClient(add_middleware(build_app(service, [build_router(service)]))) as client:
        yield client


def test_it_is_answered_and_counted_under_its_path(counting: TestClient) -> None:
    told = counting.post("/count", json={"text": "red", "times": 2})
    assert told.json() == {"count": 6}
    assert 'path="/count",status="200"' in counting.get("/metrics").text


def test_the_document_describes_it_with_its_shapes_and_example(counting: TestClient) -> None:
    document = counting.get("/openapi.json").json()
    told = document["paths"]["/count"]["post"]
    content = told["requestBody"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/CountRequest"}
    assert content["examples"] == {"short": {"value": {"text": "red"}}}
    assert "times" in document["components"]["schemas"]["CountRequest"]["properties"]
    assert document["components"]["schemas"]["CountAnswer"]["required"] == ["count"]
    errors = told["responses"]["default"]["content"]["application/json"]["schema"]
    assert set(errors["properties"]) == {"error", "reason"}
    assert "| `POST /count` | Count characters. |" in draw_table(list_operations(document))


def test_other_methods_types_and_fields_are_refused_as_on_every_path(counting: TestClient) -> None:
    got = counting.get("/count")
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
    assert counting.post("/count", content=b"red").status_code == 415
    told = counting.post("/count", json={"text": "red", "time": 2})
    assert told.status_code == 400
    assert told.json()["error"]["code"] == "unknown_field"
    assert "text, times" in told.json()["reason"]
    assert counting.post("/counts", json={}).status_code == 404


def test_a_refusal_on_arrival_has_its_message_where_its_clients_read_it(
    service: Service, counting: TestClient
) -> None:
    middleware: Any = counting.app
    middleware._admission.refuse = lambda _: Refused()
    told = counting.post("/count", json={"text": "red"})
    assert told.status_code == 429
    assert told.json()["reason"] == told.json()["error"]["message"] == "full"


class Refused:
    def to_error(self) -> OverloadedError:
        return OverloadedError("full", retry_after=1)
