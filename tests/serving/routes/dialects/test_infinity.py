"""What infinity's own client sends and reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
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


def test_a_stored_classifier_labels_texts_in_its_shape(client: TestClient) -> None:
    client.put("/classifiers/tones", json={"classes": ["red", "blue"]})
    told = client.post("/classify", json={"input": ["red", "blue"], "model": "tones"}).json()
    assert told["object"] == "classify"
    assert told["model"] == "tones"
    assert [one[0]["label"] for one in told["data"]] == ["red", "blue"]
    assert sum(label["score"] for label in told["data"][0]) == pytest.approx(1, abs=1e-5)
    assert told["usage"]["total_tokens"] > 0
    named = {"input": ["red", "blue"], "model": "colours", "classifier": "tones"}
    assert client.post("/classify", json=named).json() == told


def test_raw_scores_are_cosines(client: TestClient) -> None:
    client.put("/classifiers/tones", json={"classes": ["red", "blue"]})
    body = {"input": ["a photo of a red."], "model": "tones", "raw_scores": True}
    first, second = client.post("/classify", json=body).json()["data"][0]
    assert first["score"] > second["score"] > 0
    assert first["score"] + second["score"] != pytest.approx(1, abs=1e-3)


def test_classify_without_a_classifier_says_how_to_name_one(client: TestClient) -> None:
    told = client.post("/classify", json={"input": ["red"]})
    assert (told.status_code, told.json()["error"]["param"]) == (400, "classifier")
    unknown = client.post("/classify", json={"input": ["red"], "model": "colours"})
    assert unknown.status_code == 404
