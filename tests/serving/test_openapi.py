"""The OpenAPI document: complete, true, and no request that it allows makes the server fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import hypothesis
import jsonschema_rs
import pytest
import schemathesis
import uvicorn
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance
from starlette.testclient import TestClient

from twinlens.bundle.manifest import AttentionSpec
from twinlens.serving.app import build_app, surround
from twinlens.serving.operations import OPERATIONS
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits, Settings

_METHODS = ("get", "put", "post", "delete")


def examples() -> Iterator[tuple[str, str, str, Any]]:
    for (method, path), operation in OPERATIONS.items():
        content = operation.get("requestBody", {}).get("content", {})
        for name, example in content.get("application/json", {}).get("examples", {}).items():
            yield method, path, name, example["value"]


def test_every_path_is_described_and_every_description_has_a_path(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    served = {(method, path) for path, methods in paths.items() for method in methods}
    assert served == set(OPERATIONS)
    assert all(operation["summary"] for methods in paths.values() for operation in methods.values())


def test_fastapi_s_own_error_shape_is_nowhere(client: TestClient) -> None:
    assert "HTTPValidationError" not in client.get("/openapi.json").text


@pytest.mark.parametrize(("method", "path", "name", "body"), list(examples()))
def test_every_example_works_and_its_answer_fits_its_schema(
    client: TestClient, method: str, path: str, name: str, body: Any
) -> None:
    document = client.get("/openapi.json").json()
    answer = client.request(method, path.replace("{name}", "example"), json=body)
    assert answer.status_code in (200, 201, 202), answer.text
    responses = document["paths"][path][method]["responses"]
    schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
    whole = {**schema, "components": document["components"]}
    jsonschema_rs.validator_for(whole).validate(answer.json())


@pytest.fixture(scope="module")
def schema(make_encoder: Any) -> Iterator[Any]:
    """The document of a server that lives as long as the fuzzing does."""
    encoder = make_encoder()
    encoder.manifest = replace(encoder.manifest, attention=AttentionSpec("attention.onnx", 2, 4, 4))
    settings = Settings(limits=Limits(items=16, classes=16, prompts=64, request_seconds=5))
    service = Service(settings, lambda source, precision: encoder)
    service.load("colours", "colours")
    config = uvicorn.Config(surround(build_app(service)), port=0, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("path", sorted({path for _, path in OPERATIONS}))
def test_nothing_that_the_document_allows_is_a_5xx_or_answered_off_schema(
    schema: Any, path: str, make_fuzz: Callable[..., None]
) -> None:
    for method in _METHODS:
        if (method, path) in OPERATIONS:
            make_fuzz(schema[path][method.upper()])


@pytest.fixture
def make_fuzz() -> Callable[..., None]:
    def fuzz(operation: Any) -> None:
        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def run(case: Any) -> None:
            case.call_and_validate(checks=[not_a_server_error, response_schema_conformance])

        run()

    return fuzz
