"""`/tag`: words of a stored vocabulary, best first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.bundle.calibration.test_calibration import CALIBRATION
from twinlens.bundle.calibration.calibration import EXTENSION, Evidence
from twinlens.bundle.tagging.lexicon import read_lexicon

BLUE = (0, 0, 255)


@pytest.fixture
def colours(client: TestClient) -> TestClient:
    """A server with a vocabulary of three colours."""
    stored = client.put("/classifiers/colours", json={"classes": ["red", "green", "blue"]})
    assert stored.status_code in (200, 201), stored.text
    return client


def test_a_stored_classifier_is_a_vocabulary(
    colours: TestClient, uri: Callable[..., str], image: Callable[..., bytes]
) -> None:
    body = {"images": [uri(BLUE), uri((255, 0, 0))], "classifier": "colours", "top_k": 1}
    answer = colours.post("/tag", json=body).json()
    assert [one["tags"][0]["tag"] for one in answer["data"]] == ["blue", "red"]
    assert (answer["classifier"], answer["words"]) == ("colours", 3)
    assert answer["data"][0]["tags"][0]["probability"] is None
    assert answer["data"][0]["none_of_these"] is None
    files = [("images", image(BLUE)), ("images", image((255, 0, 0)))]
    form = colours.post("/tag", files=files, data={"classifier": "colours", "top_k": "1"})
    assert form.json() == answer


def test_a_calibrated_bundle_gives_probabilities(
    colours: TestClient, encoder: Any, uri: Callable[..., str]
) -> None:
    believes = replace(CALIBRATION, classes=(Evidence(1, 0.9, 0.9, 50.0),))
    encoder.manifest = replace(encoder.manifest, extensions={EXTENSION: believes.to_extension()})
    body = {"images": [uri(BLUE)], "classifier": "colours"}
    (entry,) = colours.post("/tag", json=body).json()["data"]
    shares = [tag["probability"] for tag in entry["tags"]]
    assert shares[0] > 0.9 and shares[1] < 0.1
    assert entry["none_of_these"] is False


def test_the_shipped_words_become_a_classifier_on_first_use(
    client: TestClient, encoder: Any, uri: Callable[..., str]
) -> None:
    assert client.get("/classifiers").json()["data"] == []
    answer = client.post("/tag", json={"images": [uri(BLUE)]}).json()
    assert (answer["classifier"], answer["words"]) == ("lexicon", len(read_lexicon()))
    assert [one["name"] for one in client.get("/classifiers").json()["data"]] == ["lexicon"]
    texts = client.put("/classifiers/lexicon", json={"classes": ["red", "blue"]})
    assert texts.status_code == 200
    replaced = client.post("/tag", json={"images": [uri(BLUE)]}).json()
    assert replaced["words"] == 2 and replaced["data"][0]["tags"][0]["tag"] == "blue"


def test_a_broken_picture_leaves_the_others(colours: TestClient, uri: Callable[..., str]) -> None:
    body = {"images": ["AAAA", uri(BLUE)], "classifier": "colours"}
    broken, whole = colours.post("/tag", json=body).json()["data"]
    assert "images[0]" in broken["error"]["param"]
    assert whole["tags"][0]["tag"] == "blue"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "images"),
        ({"images": []}, 400, "images"),
        ({"images": ["AAAA"], "classifier": "none"}, 404, "classifier 'none' does not exist"),
        ({"images": ["AAAA"], "top_k": 0}, 400, "top_k"),
        ({"images": ["AAAA"], "words": ["x"]}, 400, "words"),
    ],
)
def test_faulty_requests_name_the_field(
    client: TestClient, body: dict[str, Any], status: int, said: str
) -> None:
    answer = client.post("/tag", json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.text
