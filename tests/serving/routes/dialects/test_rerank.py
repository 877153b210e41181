"""Reranking: each client's request, and the scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

PATHS = ("/rerank", "/v1/rerank", "/v2/rerank")


def ask(client: TestClient, path: str = "/v1/rerank", **body: Any) -> Any:
    told = client.post(path, json={"query": "red", **body})
    assert told.status_code == 200, told.text
    return told.json()


@pytest.mark.parametrize("path", PATHS)
def test_documents_come_best_first_with_their_cosines(client: TestClient, path: str) -> None:
    texts = ["blue", "red", "a red thing"]
    told = ask(client, path, documents=texts, top_n=2)
    rows = np.array(
        client.post("/embed", json={"texts": ["red", *texts]}).json()["embeddings"], np.float32
    )
    cosines = rows[1:] @ rows[0]
    order = np.argsort(-cosines)[:2]
    assert [one["index"] for one in told["results"]] == order.tolist()
    found = [one["relevance_score"] for one in told["results"]]
    assert found == pytest.approx(cosines[order].tolist(), abs=1e-6)
    assert told["data"] == told["results"]
    assert told["usage"]["total_tokens"] > 0


def test_images_are_documents_and_queries(client: TestClient, uri: Callable[..., str]) -> None:
    images = [uri((0, 0, 255)), uri((255, 0, 0))]
    told = ask(client, documents=[{"image": images[0]}, images[1], {"text": "green"}])
    assert told["results"][0]["index"] == 1
    other = ask(client, query={"image": images[0]}, documents=["red", "blue"], top_k=1)
    assert [one["index"] for one in other["results"]] == [1]


def test_a_probability_is_what_the_bundle_makes_of_the_cosines(client: TestClient) -> None:
    told = ask(client, documents=["blue", "red"], score="probability")
    scores = [one["relevance_score"] for one in told["results"]]
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert scores[0] > 0.9


def test_documents_are_returned_where_asked_for(client: TestClient) -> None:
    told = ask(client, documents=["red", {"text": "blue"}], return_documents=True)
    assert [one["document"] for one in told["results"]] == [{"text": "red"}, {"text": "blue"}]
    assert "document" not in ask(client, documents=["red"])["results"][0]
    infinity = ask(client, "/rerank", documents=["red", "blue"], return_documents=True)
    assert infinity["object"] == "rerank"
    assert [one["document"] for one in infinity["results"]] == ["red", "blue"]


def test_tei_sends_texts_and_reads_a_bare_list(client: TestClient) -> None:
    told = ask(client, "/rerank", texts=["blue", "red"], return_text=True, raw_scores=False)
    assert [(one["index"], one["text"]) for one in told] == [(1, "red"), (0, "blue")]
    assert set(ask(client, "/rerank", texts=["blue"])[0]) == {"index", "score"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"documents": ["a"], "texts": ["a"]}, "documents"),
        ({"documents": [5]}, "documents[0]"),
        ({"documents": ["a", {"image": "AAAA"}]}, "documents[1]"),
        ({"documents": ["a"], "query": None}, "query"),
        ({"documents": ["a"], "score": "logit"}, "score"),
        ({"documents": ["a"], "top_n": 0}, "top_n"),
    ],
)
def test_a_wrong_field_is_named_where_each_client_reads_it(
    client: TestClient, body: dict[str, Any], param: str
) -> None:
    for path, key in (("/v1/rerank", "detail"), ("/v2/rerank", "message")):
        told = client.post(path, json={"query": "red", **body})
        assert (told.status_code, told.json()["error"]["param"]) == (400, param)
        assert told.json()[key] == told.json()["error"]["message"]
