"""Cohere's and Voyage's shapes: golden requests as their clients send them, golden answers."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

Uri = Callable[..., str]


def ask(client: TestClient, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def embed(client: TestClient, *texts: str) -> np.ndarray[Any, Any]:
    return np.array(client.post("/embed", json={"texts": texts}).json()["embeddings"], np.float32)


def test_cohere_gets_every_requested_number_type_from_one_encode(client: TestClient) -> None:
    body = ask(
        client,
        "/v2/embed",
        model="colours",
        input_type="search_document",
        texts=["red", "blue"],
        embedding_types=["float", "int8", "uint8", "binary", "ubinary", "base64"],
        truncate="END",
    )
    assert set(body) == {"id", "response_type", "embeddings", "meta"}
    assert body["response_type"] == "embeddings_by_type"
    assert body["meta"]["billed_units"] == {"input_tokens": 11}
    assert body["meta"]["api_version"] == {"version": "2"}
    found = {kind: body["embeddings"][kind] for kind in body["embeddings"]}
    rows = np.array(found["float"], np.float32)
    assert np.array_equal(rows, embed(client, "red", "blue"))
    int8 = np.array(found["int8"])
    assert (np.abs(int8).max(axis=1) == 127).all()
    assert np.array_equal(np.array(found["uint8"]), int8 + 128)
    packed = np.packbits(rows >= 0, axis=1).astype(int)
    assert found["ubinary"] == packed.tolist()
    assert found["binary"] == (packed - 128).tolist()
    decoded = [np.frombuffer(base64.b64decode(text), "<f4") for text in found["base64"]]
    assert np.array_equal(decoded, rows)


def test_cohere_gets_floats_when_it_names_no_type(client: TestClient) -> None:
    body = ask(client, "/v2/embed", input_type="search_query", texts=["red"])
    assert list(body["embeddings"]) == ["float"]


def test_cohere_sends_images_alone_or_as_content(client: TestClient, uri: Uri) -> None:
    alone = ask(client, "/v2/embed", input_type="image", images=[uri()], output_dimension=8)
    part = {"type": "image_url", "image_url": {"url": uri()}}
    content = ask(
        client,
        "/v2/embed",
        input_type="search_document",
        inputs=[{"content": [part]}, {"content": [{"type": "text", "text": "red"}]}],
        output_dimension=8,
    )
    assert alone["meta"]["billed_units"]["images"] == 1
    assert len(alone["embeddings"]["float"][0]) == 8
    assert content["embeddings"]["float"][0] == alone["embeddings"]["float"][0]
    assert np.linalg.norm(content["embeddings"]["float"][1]) == pytest.approx(1, abs=1e-6)


def test_a_text_and_an_image_in_one_input_are_one_embedding(client: TestClient, uri: Uri) -> None:
    parts = [
        {"type": "text", "text": "red"},
        {"type": "image_url", "image_url": {"url": uri((0, 0, 255))}},
    ]
    fused = ask(
        client, "/v2/embed", input_type="image", inputs=[{"content": parts}, {"content": "red"}]
    )
    first, second = np.array(fused["embeddings"]["float"], np.float32)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-6)
    assert first @ second < 0.999
    assert np.array_equal(second, embed(client, "red")[0])
    assert fused["meta"]["billed_units"]["images"] == 1
    voyage = [parts[0], {"type": "image_base64", "image_base64": uri((0, 0, 255))}]
    body = ask(client, "/v1/multimodalembeddings", inputs=[{"content": voyage}])
    assert body["data"][0]["embedding"] == pytest.approx(first.tolist(), abs=1e-6)


def test_cohere_s_first_version_answers_rows_alone_or_by_kind(client: TestClient) -> None:
    plain = ask(client, "/v1/embed", model="colours", texts=["red", "blue"], truncate="END")
    assert plain["response_type"] == "embeddings_floats"
    assert np.array_equal(np.array(plain["embeddings"], np.float32), embed(client, "red", "blue"))
    assert plain["texts"] == ["red", "blue"]
    kinds = ask(client, "/v1/embed", texts=["red"], embedding_types=["int8", "float"])
    assert kinds["response_type"] == "embeddings_by_type"
    assert set(kinds["embeddings"]) == {"int8", "float"}


def test_a_thousand_texts_are_one_request(client: TestClient) -> None:
    texts = [f"red {i % 5}" for i in range(1000)]
    told = ask(client, "/v2/embed", input_type="search_query", texts=texts)
    assert len(told["embeddings"]["float"]) == 1000


def test_voyage_sends_content_and_gets_its_own_usage(client: TestClient, uri: Uri) -> None:
    body = ask(
        client,
        "/v1/multimodalembeddings",
        model="colours",
        inputs=[
            {"content": [{"type": "text", "text": "red"}]},
            {"content": [{"type": "image_base64", "image_base64": uri()}]},
            {"content": [{"type": "image_url", "image_url": uri()}]},
        ],
        input_type="document",
        truncation=True,
        encoding_format="base64",
    )
    assert body["usage"] == {
        "text_tokens": 5,
        "image_pixels": 2 * 20 * 16,
        "video_pixels": 0,
        "total_tokens": 5,
    }
    assert [entry["index"] for entry in body["data"]] == [0, 1, 2]
    rows = [np.frombuffer(base64.b64decode(e["embedding"]), "<f4") for e in body["data"]]
    assert np.array_equal(rows[0], embed(client, "red")[0])
    assert np.array_equal(rows[1], rows[2])
    assert rows[0] @ rows[1] > 0.99


def test_voyage_s_texts_go_to_openai_s_path_with_its_own_fields(client: TestClient) -> None:
    row = embed(client, "red")[0]
    for kind, dtype in (("int8", "i1"), ("uint8", "u1"), ("binary", "i1"), ("ubinary", "u1")):
        body = ask(
            client,
            "/v1/embeddings",
            model="colours",
            input=["red"],
            input_type="query",
            truncation=True,
            output_dtype=kind,
            output_dimension=8,
            encoding_format="base64",
        )
        found = np.frombuffer(base64.b64decode(body["data"][0]["embedding"]), dtype)
        plain = ask(client, "/v1/embeddings", input=["red"], output_dtype=kind, dimensions=8)
        assert found.tolist() == plain["data"][0]["embedding"]
        if kind == "int8":
            short = row[:8] / np.linalg.norm(row[:8])
            assert np.allclose(found / 127 * np.abs(short).max(), short, atol=0.01)


@pytest.mark.parametrize(
    ("path", "key", "body", "param"),
    [
        ("/v2/embed", "message", {"texts": ["a"]}, "input_type"),
        ("/v2/embed", "message", {"texts": ["a"], "input_type": "x"}, "input_type"),
        ("/v2/embed", "message", {"input_type": "image"}, "texts"),
        ("/v2/embed", "message", {"input_type": "image", "images": [5]}, "images[0]"),
        ("/v2/embed", "message", {"input_type": "image", "images": ["AAAA"]}, "images[0]"),
        ("/v2/embed", "message", {"input_type": "image", "inputs": [{}]}, "inputs[0].content"),
        (
            "/v2/embed",
            "message",
            {"input_type": "image", "texts": ["a"], "embedding_types": ["f"]},
            "embedding_types[0]",
        ),
        ("/v1/multimodalembeddings", "detail", {}, "inputs"),
        ("/v1/multimodalembeddings", "detail", {"inputs": [{"content": []}]}, "inputs[0].content"),
        ("/v1/embeddings", "detail", {"input": ["a"], "output_dtype": "f4"}, "output_dtype"),
        ("/v1/embeddings", "detail", {"input": ["a"], "output_dimension": 0}, "output_dimension"),
    ],
)
def test_an_error_message_is_in_the_field_that_each_client_reads(
    client: TestClient, path: str, key: str, body: dict[str, Any], param: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert answer.json()[key] == answer.json()["error"]["message"]


PROMPTS = {"required": True, "default": "", "by_purpose": {"query": "blue ", "document": "green "}}


@pytest.mark.parametrize(
    ("path", "body", "prompted"),
    [
        ("/v2/embed", {"input_type": "search_query", "texts": ["red"]}, "blue red"),
        ("/v2/embed", {"input_type": "search_document", "texts": ["red"]}, "green red"),
        ("/v2/embed", {"input_type": "classification", "texts": ["red"]}, "red"),
        ("/v1/embeddings", {"input_type": "query", "input": ["red"]}, "blue red"),
        ("/v1/embeddings", {"input": ["red"]}, "red"),
        ("/embed", {"input_type": "query", "texts": ["red"]}, "blue red"),
        ("/embed", {"input_type": "search_document", "inputs": ["red"]}, "green red"),
        ("/embed", {"texts": ["red"]}, "red"),
        (
            "/v1/multimodalembeddings",
            {"input_type": "document", "inputs": [{"content": [{"type": "text", "text": "red"}]}]},
            "green red",
        ),
    ],
)
def test_an_input_type_puts_the_bundles_prompt_before_a_text(
    make_client: Callable[..., TestClient],
    encoder: Any,
    path: str,
    body: dict[str, Any],
    prompted: str,
) -> None:
    encoder.manifest = replace(encoder.manifest, extensions={"prompts": PROMPTS})
    client = make_client()
    answer = ask(client, path, model="colours", **body)
    rows = answer.get("embeddings") or [entry["embedding"] for entry in answer["data"]]
    rows = rows["float"] if isinstance(rows, dict) else rows
    np.testing.assert_allclose(np.array(rows, np.float32), embed(client, prompted), atol=1e-6)
