"""immich's requests: a form with entries; and rows as long as its database expects."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from twinlens.serving.settings import ServerSettings

NAME = "ViT-B-32__openai"


@pytest.fixture
def library(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client(ServerSettings(aliases=(f"{NAME}=colours:64", "short=colours:8")))


def entries(side: str, name: str = NAME, **more: Any) -> dict[str, str]:
    return {"entries": json.dumps({"clip": {side: {"modelName": name, "options": {}}}, **more})}


def test_a_photo_is_embedded_and_filled_to_the_width_of_the_alias(
    library: TestClient, image: Callable[..., bytes]
) -> None:
    photo = image(size=(30, 20))
    told = library.post("/predict", data=entries("visual"), files={"image": ("x", photo)}).json()
    row = np.array(json.loads(told["clip"]), np.float32)
    plain = library.post("/embed", content=photo, headers={"content-type": "image/png"}).json()
    assert row[:16].tolist() == pytest.approx(plain["embeddings"][0], abs=1e-6)
    assert row.shape == (64,)
    assert not row[16:].any()
    assert (told["imageHeight"], told["imageWidth"]) == (20, 30)


def test_a_search_text_has_the_same_cosine_as_elsewhere(
    library: TestClient, image: Callable[..., bytes]
) -> None:
    photo = library.post("/predict", data=entries("visual"), files={"image": ("x", image())})
    form = {name: (None, value) for name, value in (entries("textual") | {"text": "red"}).items()}
    text = library.post("/predict", files=form)
    rows = [np.array(json.loads(told.json()["clip"])) for told in (photo, text)]
    body = {"pairs": [["red", {"image": uri_of(image())}]]}
    cosine = library.post("/similarity", json=body).json()["similarities"][0]
    assert rows[0] @ rows[1] == pytest.approx(cosine, abs=1e-5)
    assert set(text.json()) == {"clip"}


def uri_of(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def test_it_answers_the_ping(library: TestClient) -> None:
    assert library.get("/ping").text == "pong"


def test_faces_and_writing_are_refused_in_clear_words(library: TestClient) -> None:
    asked = {"entries": json.dumps({"facial-recognition": {"detection": {"modelName": "x"}}})}
    told = library.post("/predict", data=asked, files={"image": ("x", b"x")})
    assert told.status_code == 400
    assert told.json()["error"]["code"] == "task_not_served"
    assert "faces" in told.json()["error"]["message"]


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({"entries": "no json"}, 400, "entries"),
        ({}, 400, "entries"),
        ({"entries": "{}"}, 400, "entries.clip"),
        (entries("visual"), 400, "image"),
        (entries("textual"), 400, "text"),
        ({**entries("textual", "unknown"), "text": "red"}, 404, "model"),
        ({**entries("textual", "short"), "text": "red"}, 400, "modelName"),
    ],
)
def test_a_wrong_form_is_told_what_is_wrong(
    library: TestClient, form: dict[str, str], status: int, param: str
) -> None:
    told = library.post("/predict", data={**form, "more": "x"}, files={"other": ("x", b"x")})
    assert (told.status_code, told.json()["error"]["param"]) == (status, param), told.text
