"""Text Embeddings Inference: when `/embed` answers rows alone, `/`, `/info`, `/predict`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient


def rows_of(client: TestClient, *texts: str) -> list[list[float]]:
    found: list[list[float]] = client.post("/embed", json={"texts": texts}).json()["embeddings"]
    return found


@pytest.mark.parametrize(
    "extra",
    [{"truncate": True}, {"normalize": True}, {"truncation_direction": "Right"}],
)
def test_a_field_of_tei_beside_inputs_makes_the_answer_rows_alone(
    client: TestClient, extra: dict[str, Any]
) -> None:
    body = {"inputs": ["red", "blue"], **extra}
    assert client.post("/embed", json=body).json() == rows_of(client, "red", "blue")


def test_inputs_that_are_a_string_get_rows_alone_too(client: TestClient) -> None:
    assert client.post("/embed", json={"inputs": "red"}).json() == rows_of(client, "red")


def test_inputs_alone_are_ours(client: TestClient) -> None:
    told = client.post("/embed", json={"inputs": ["red"]}).json()
    assert told["embeddings"] == rows_of(client, "red")


def test_beside_texts_the_fields_of_tei_change_nothing(client: TestClient) -> None:
    told = client.post("/embed", json={"texts": ["red"], "truncate": True}).json()
    assert told["embeddings"] == rows_of(client, "red")


def test_the_root_always_answers_rows_alone(client: TestClient) -> None:
    assert client.post("/", json={"inputs": ["red"]}).json() == rows_of(client, "red")
    assert client.get("/").headers["content-type"].startswith("text/html")


def test_a_long_text_is_cut_and_one_bad_item_fails_the_request(client: TestClient) -> None:
    long = "red " * 5000
    told = client.post("/embed", json={"inputs": [long], "truncate": True}).json()
    assert told == rows_of(client, long[:8192])
    bad = client.post("/", json={"inputs": ["red", {"image": "AAAA"}]})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "inputs[1]")


def test_info_names_the_model_and_its_limits(client: TestClient) -> None:
    told = client.get("/info").json()
    assert told["model_id"] == "colours"
    assert told["max_client_batch_size"] == 2048
    assert told["model_type"] == {"embedding": {"pooling": "mean"}}


def test_predict_scores_pairs_and_the_classes_of_a_stored_classifier(client: TestClient) -> None:
    pairs = client.post("/predict", json={"inputs": [["red", "red"], ["red", "blue"]]}).json()
    assert [one[0]["label"] for one in pairs] == ["similarity", "similarity"]
    assert pairs[0][0]["score"] == pytest.approx(1, abs=1e-5)
    assert pairs[1][0]["score"] < 0.9
    missing = client.post("/predict", json={"inputs": "red"})
    assert missing.json()["error"]["param"] == "classifier"
    client.put("/classifiers/tones", json={"classes": ["red", "blue"]})
    told = client.post("/predict", json={"inputs": "red", "classifier": "tones"}).json()
    assert told[0]["label"] == "red"
    assert set(told[0]) == {"label", "score"}
    many = client.post("/predict", json={"inputs": ["red", "blue"], "classifier": "tones"}).json()
    assert [one[0]["label"] for one in many] == ["red", "blue"]


def test_a_prompt_is_named_as_the_bundle_names_it_or_refused(
    make_client: Callable[..., TestClient], encoder: Any
) -> None:
    plain = make_client().post("/embed", json={"inputs": ["red"], "prompt_name": "query"})
    assert plain.json()["error"]["param"] == "prompt_name"
    assert "has no prompts" in plain.json()["error"]["message"]
    prompts = {"default": "", "by_purpose": {"query": "blue "}}
    encoder.manifest = replace(encoder.manifest, extensions={"prompts": prompts})
    client = make_client()
    found = client.post("/embed", json={"inputs": ["red"], "prompt_name": "query"}).json()
    assert found == client.post("/embed", json={"inputs": "blue red"}).json()
    other = client.post("/embed", json={"inputs": ["red"], "prompt_name": "passage"})
    assert "has prompts for query" in other.json()["error"]["message"]
    both = {"inputs": ["red"], "prompt_name": "query", "input_type": "query"}
    assert client.post("/embed", json=both).json()["error"]["param"] == "prompt_name"


def test_rows_of_another_length_are_refused_with_the_reason(client: TestClient) -> None:
    told = client.post("/embed", json={"inputs": ["red"], "normalize": False})
    assert told.json()["error"]["param"] == "normalize"
    assert "length 1" in told.json()["error"]["message"]
