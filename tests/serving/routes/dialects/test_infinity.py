"""What infinity's own client sends and reads."""

from __future__ import annotations

from collections.abc import Callable

from starlette.testclient import TestClient


def test_dimensions_of_zero_ask_for_all(client: TestClient) -> None:
    whole = client.post("/embeddings", json={"input": "red"}).json()
    zero = client.post("/embeddings", json={"input": "red", "dimensions": 0, "model": "colours"})
    assert zero.json() == whole


def test_models_are_listed_in_the_shape_that_its_client_accepts(client: TestClient) -> None:
    (told,) = client.get("/models").json()["data"]
    assert told["id"] == "colours"
    assert told["owned_by"] == "infinity"
    assert told["stats"]["batch_size"] == 32
    assert told["stats"]["queue_fraction"] == 0


def test_health_needs_no_key_and_tells_the_time(client: TestClient) -> None:
    assert client.get("/health").json()["unix"] > 1.7e9


def test_its_former_path_takes_strings_as_images(
    client: TestClient, uri: Callable[..., str]
) -> None:
    told = client.post("/embeddings_image", json={"input": uri(), "dimensions": 0}).json()
    named = {"input": [uri()], "modality": "image"}
    assert told == client.post("/embeddings", json=named).json()
