"""The OpenAPI document: complete, accurate, and no request that it allows makes the server fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import jsonschema_rs
import pytest
import schemathesis
import uvicorn
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance
from starlette.testclient import TestClient

from docs import draw_api, draw_routes
from twinlens.bundle.manifest import AttentionSpec
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.openapi.document import list_operations
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits, ServerSettings

OPERATIONS = draw_routes.read_operations()
FILLED = (
    "/search",
    "/knn-service",
    "/collections/{name}/items",
    "/collections/{name}/build",
    "/collections/{name}/report",
    "/collections/{name}/map/scores",
)
UNTRIED = ("/v1/models/{name}", "/collections/{name}/folders")  # a key, a folder that is allowed

_METHODS = ("get", "put", "post", "patch", "delete")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CollectionStore]:
    opened = CollectionStore(tmp_path_factory.mktemp("shelf"))
    yield opened
    opened.close()


@pytest.fixture
def client(encoder: Any, tmp_path: Path) -> Iterator[TestClient]:
    """A server with every route, and the collection that the examples use."""
    encoder.manifest = replace(encoder.manifest, attention=AttentionSpec("attention.onnx", 2, 4, 4))
    store = CollectionStore(tmp_path)
    service = Service(ServerSettings(), lambda source, precision: encoder)
    service.load("colours", "colours")
    with TestClient(add_middleware(build_app(service, build_routers(service, store)))) as opened:
        yield opened
    store.close()


def examples() -> Iterator[tuple[str, str, str, Any]]:
    for (method, path), operation in OPERATIONS.items():
        content = operation.get("requestBody", {}).get("content", {})
        for name, example in content.get("application/json", {}).get("examples", {}).items():
            yield method, path, name, example["value"]


def test_every_route_declares_its_answers_errors_and_what_it_does(client: TestClient) -> None:
    operations = list_operations(client.get("/openapi.json").json())
    assert set(operations) == set(OPERATIONS)
    for key, operation in operations.items():
        assert operation["summary"], key
        assert operation["description"].endswith("."), key
        assert len(operation["tags"]) >= 1, key
        assert {"default"} < set(operation["responses"]), key
        shapes = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert shapes == {"$ref": "#/components/schemas/Error"} or "error" in shapes["required"]


def test_every_field_and_parameter_has_a_meaning_that_its_name_does_not_give() -> None:
    found = dict(list_meanings(draw_routes.read_document()))
    assert len(found) > 500
    words = {where: where.rpartition(".")[2].replace("_", " ").lower() for where in found}
    empty = [where for where, meaning in found.items() if meaning.lower() in ("", words[where])]
    assert empty == []


def list_meanings(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the document says of each field and parameter; a constant says it itself."""
    for name, shape in document["components"]["schemas"].items():
        yield from list_fields(name, shape)
    for (method, path), operation in list_operations(document).items():
        key = f"{method} {path}"
        for one in operation.get("parameters", []):
            yield f"{key} ?.{one['name']}", one.get("description", "")
        for answer in (operation.get("requestBody", {}), *operation["responses"].values()):
            for media, content in answer.get("content", {}).items():
                yield from list_fields(f"{key} {media}", content["schema"])


def list_fields(where: str, schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for field in draw_api.list_fields(schema):
        if not is_constant(field.schema):
            yield f"{where}.{field.name}", field.meaning


def is_constant(schema: dict[str, Any]) -> bool:
    inner = schema.get("anyOf", [])
    return "const" in schema or (bool(inner) and all(map(is_constant, inner)))


def test_the_table_of_paths_in_the_docs_is_what_its_script_writes() -> None:
    """`python docs/draw_routes.py` makes it anew."""
    page = draw_routes.PAGE.read_text(encoding="utf-8")
    assert draw_routes.write_table(page, OPERATIONS) == page
    lines = page.splitlines(keepends=True)
    row = next(i for i, line in enumerate(lines) if line.startswith("| `POST /embed`"))
    worse = "".join(lines[:row] + lines[row + 1 :])
    assert draw_routes.write_table(worse, OPERATIONS) == page


def test_fastapi_s_own_error_schema_is_absent(client: TestClient) -> None:
    assert "HTTPValidationError" not in client.get("/openapi.json").text


@pytest.mark.parametrize(("method", "path", "name", "body"), list(examples()))
def test_every_example_works_and_its_answer_fits_its_schema(
    client: TestClient, method: str, path: str, name: str, body: Any
) -> None:
    document = client.get("/openapi.json").json()
    if path in FILLED:
        fill_collection(client)
    if path == "/classify":
        client.put("/classifiers/colours", json={"classes": ["red", "blue"]}).raise_for_status()
    answer = client.request(method, path.replace("{name}", "example"), json=body)
    assert answer.status_code in (200, 201, 202), answer.text
    responses = document["paths"][path][method]["responses"]
    schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
    whole = {**schema, "components": document["components"]}
    jsonschema_rs.validator_for(whole).validate(answer.json())


def fill_collection(client: Any) -> None:
    assert client.put("/collections/example", json={}).status_code == 201
    content = OPERATIONS["post", "/collections/{name}/items"]["requestBody"]["content"]
    items = content["application/json"]["examples"]["two"]["value"]
    assert client.post("/collections/example/items", json=items).status_code == 200


def test_a_server_without_collections_does_not_describe_them(
    make_client: Callable[..., TestClient],
) -> None:
    served = set(list_operations(make_client().get("/openapi.json").json()))
    topics = {"collections", "clip-retrieval"}
    told = {key for key, operation in OPERATIONS.items() if topics & set(operation["tags"])}
    assert served == set(OPERATIONS) - told
    assert len(told) > 8


def test_every_body_that_a_route_reads_has_a_schema_and_an_example(client: TestClient) -> None:
    for (method, path), operation in OPERATIONS.items():
        if method in ("post", "put") and path not in UNTRIED:
            content = operation["requestBody"]["content"]["application/json"]
            assert content["schema"], path
            assert content["examples"], path


@pytest.fixture(scope="module")
def schema(make_encoder: Any, store: CollectionStore) -> Iterator[Any]:
    """The document of a server that runs during the fuzzing."""
    encoder = make_encoder()
    encoder.manifest = replace(encoder.manifest, attention=AttentionSpec("attention.onnx", 2, 4, 4))
    settings = ServerSettings(limits=Limits(items=16, classes=16, prompts=64, request_seconds=5))
    service = Service(settings, lambda source, precision: encoder)
    service.load("colours", "colours")
    app = add_middleware(build_app(service, build_routers(service, store)))
    config = uvicorn.Config(app, port=0, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        fill_collection(http)
    yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("path", sorted({path for _, path in OPERATIONS}))
def test_no_documented_request_gets_a_5xx_or_an_answer_off_schema(
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
            parameters = case.path_parameters or {}
            if operation.path.startswith("/collections/{name}/") and "name" in parameters:
                parameters["name"] = "example"  # a random name only ever gets a 404
            case.call_and_validate(checks=[not_a_server_error, response_schema_conformance])

        run()

    return fuzz
