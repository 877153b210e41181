"""What the server says of pictures that a model does not know, and of what the model is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from twinlens.bundle.domain.domain_sign import EXTENSION, DomainSign

CARD = {"domain": "warm colours", "not_for": ["blue"]}


@pytest.fixture
def wary(client: TestClient, encoder: Any, image: Callable[..., bytes]) -> TestClient:
    """A server whose model knows anything but blue."""
    (blue,) = encoder.encode_pixels(encoder.preprocess(image((0, 0, 255)))[None])
    sign = DomainSign(blue, 0.0, ((1, 0.9), (2, 0.7)))
    extensions = {EXTENSION: sign.to_extension(), "card": CARD}
    encoder.manifest = replace(encoder.manifest, extensions=extensions)
    return client


def test_zeroshot_warns_of_pictures_that_the_model_does_not_know(
    wary: TestClient, uri: Callable[..., str]
) -> None:
    body = {"images": [uri((0, 0, 255))], "classes": ["red", "blue"]}
    answer = wary.post("/zeroshot", json=body).json()
    (warning,) = answer["warnings"]
    assert "this picture looks unlike what model 'colours' knows (warm colours)" in warning
    assert "`twinlens models`" in warning
    assert answer["data"][0]["labels"][0]["label"] == "blue"


def test_familiar_pictures_are_answered_as_before(
    wary: TestClient, uri: Callable[..., str]
) -> None:
    body = {"images": [uri((255, 0, 0)), uri((0, 0, 255))], "classes": ["red", "blue"]}
    assert "warnings" not in wary.post("/zeroshot", json=body).json()


def test_a_failed_picture_does_not_count(wary: TestClient, uri: Callable[..., str]) -> None:
    body = {"images": [uri((0, 0, 255)), "data:image/png;base64,AAAA"], "classes": ["red"]}
    answer = wary.post("/zeroshot", json=body).json()
    assert "error" in answer["data"][1]
    assert "this picture looks" in answer["warnings"][0]


def test_models_carry_their_card(wary: TestClient) -> None:
    assert wary.get("/v1/models/colours").json()["card"] == CARD


def test_a_model_without_a_card_says_so(client: TestClient) -> None:
    assert client.get("/v1/models").json()["data"][0]["card"] is None
