"""`/similarity` and `/attention`."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from twinlens.bundle.manifest import AttentionSpec


def test_pairs_get_one_cosine_each(client: TestClient, uri: Callable[..., str]) -> None:
    pairs = [["red", {"image": uri()}], [{"image": uri()}, {"image": uri((0, 0, 255))}]]
    body = client.post("/similarity", json={"pairs": pairs}).json()
    same, different = body["similarities"]
    assert same > 0.99 > 0.5 > different
    assert body["revision"] == "a" * 64


def test_two_lists_get_a_matrix_of_the_same_cosines(
    client: TestClient, uri: Callable[..., str]
) -> None:
    left: list[Any] = ["red", "green", {"image": uri()}]
    right: list[Any] = [{"image": uri((0, 255, 0))}, "red"]
    matrix = client.post("/similarity", json={"left": left, "right": right}).json()["similarities"]
    assert np.shape(matrix) == (3, 2)
    pairs = [[a, b] for a in left for b in right]
    flat = client.post("/similarity", json={"pairs": pairs}).json()["similarities"]
    assert np.allclose(np.ravel(matrix), flat, atol=1e-6)


def test_both_images_of_a_pair_share_a_batch(
    client: TestClient, encoder: Any, uri: Callable[..., str]
) -> None:
    pair = [{"image": uri()}, {"image": uri((0, 0, 255))}]
    client.post("/similarity", json={"pairs": [pair]})
    assert encoder.batches == [2]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "left"),
        ({"left": ["a"]}, "right"),
        ({"pairs": [["a"]]}, "pairs[0]"),
        ({"pairs": [["a", {"image": "AAAA"}]]}, "pairs[0][1]"),
        ({"left": ["a"], "right": ["b", {"image": "AAAA"}]}, "right[1]"),
        ({"left": ["a"], "rigth": ["b"]}, "rigth"),
    ],
)
def test_a_wrong_item_is_named(client: TestClient, body: dict[str, Any], param: str) -> None:
    answer = client.post("/similarity", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.fixture
def seeing(make_client: Callable[..., TestClient], encoder: Any) -> TestClient:
    """A server whose bundle has an attention graph."""
    encoder.manifest = replace(encoder.manifest, attention=AttentionSpec("attention.onnx", 2, 4, 4))
    return make_client()


def test_attention_is_the_mean_over_heads_or_one_head(
    seeing: TestClient, encoder: Any, uri: Callable[..., str]
) -> None:
    maps = encoder.attention(np.zeros((1, 8, 8, 3), np.uint8))[0]
    body = seeing.post("/attention", json={"image": uri()}).json()
    assert (body["heads"], body["rows"], body["columns"]) == (2, 4, 4)
    assert np.allclose(body["attention"], maps.mean(0))
    body = seeing.post("/attention", json={"image": uri(), "head": 1}).json()
    assert np.allclose(body["attention"], maps[1])


def test_attention_is_drawn_for_clients_that_accept_png(
    seeing: TestClient, image: Callable[..., bytes]
) -> None:
    headers = {"content-type": "image/png", "accept": "image/png"}
    answer = seeing.post("/attention?head=0", content=image(), headers=headers)
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as drawn:
        assert drawn.size == (8, 8)
        pixels = np.asarray(drawn)
    assert pixels.std() > 1  # it varies over the image, although the image does not


def test_attention_errors_name_what_is_missing(
    seeing: TestClient,
    make_client: Callable[..., TestClient],
    make_encoder: Any,
    image: Callable[..., bytes],
) -> None:
    answer = seeing.post("/attention", json={"image": "AAAA"})
    assert answer.status_code == 400
    answer = seeing.post(
        "/attention?head=9", content=image(), headers={"content-type": "image/png"}
    )
    assert answer.json()["error"]["param"] == "head"
    plain = make_client(opener=lambda source, precision: make_encoder())
    answer = plain.post("/attention", content=image(), headers={"content-type": "image/png"})
    assert answer.status_code == 400
    assert "attention" in answer.json()["error"]["message"]
