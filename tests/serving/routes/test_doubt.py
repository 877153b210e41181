"""What `/zeroshot` and `/search` answer for a calibrated bundle; others stay as they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.bundle.calibration.test_calibration import CALIBRATION
from twinlens.bundle.calibration.calibration import EXTENSION, Evidence

BLUE, RED = (0, 0, 255), (255, 0, 0)


@pytest.fixture
def calibrated(client: TestClient, encoder: Any) -> TestClient:
    """A server whose model believes cosines from 0.9 on."""
    believes = (Evidence(1, 0.9, 0.9, 50.0), Evidence(1000, 0.9, 0.9, 50.0))
    found = replace(CALIBRATION, classes=believes, search=believes)
    extensions = {EXTENSION: found.to_extension()}
    encoder.manifest = replace(encoder.manifest, extensions=extensions)
    return client


def ask(client: TestClient, uri: Callable[..., str], **body: Any) -> dict[str, Any]:
    sent = {"images": [uri(BLUE)], "classes": ["red", "green"]} | body
    answer: dict[str, Any] = client.post("/zeroshot", json=sent).json()["data"][0]
    return answer


def test_a_picture_of_no_class_is_none_of_these(
    calibrated: TestClient, uri: Callable[..., str]
) -> None:
    refused = ask(calibrated, uri)
    assert refused["none_of_these"] is True
    assert max(label["calibrated"] for label in refused["labels"]) < 0.1
    answered = ask(calibrated, uri, classes=["red", "blue"])
    assert answered["none_of_these"] is False
    assert answered["labels"][0]["label"] == "blue"
    assert answered["labels"][0]["calibrated"] > 0.9


def test_the_order_and_the_scores_stay_what_they_are(
    calibrated: TestClient, encoder: Any, uri: Callable[..., str]
) -> None:
    told = ask(calibrated, uri, classes=["red", "green", "blue"])
    encoder.manifest = replace(encoder.manifest, extensions={})
    plain = ask(calibrated, uri, classes=["red", "green", "blue"])
    for label in told["labels"]:
        del label["calibrated"]
    assert told["labels"] == plain["labels"]
    assert "none_of_these" not in plain


def test_a_class_is_judged_by_its_cosine_above_the_level_of_the_picture(
    calibrated: TestClient, encoder: Any, uri: Callable[..., str]
) -> None:
    """With the picture's own row as origin its level is 1: nothing stands over that."""
    (row,) = calibrated.post("/embed", json={"images": [uri(BLUE)]}).json()["embeddings"]
    extension = encoder.manifest.extensions[EXTENSION] | {"origin": row}
    encoder.manifest = replace(encoder.manifest, extensions={EXTENSION: extension})
    refused = ask(calibrated, uri, classes=["red", "blue"])
    assert refused["none_of_these"] is True
    assert refused["labels"][0]["label"] == "blue"
    tagged = calibrated.post("/tag", json={"images": [uri(BLUE)]}).json()["data"][0]
    assert tagged["none_of_these"] is True


def test_a_threshold_or_false_overrides_the_calibration(
    calibrated: TestClient, uri: Callable[..., str]
) -> None:
    assert ask(calibrated, uri, none_of_these=-1.0)["none_of_these"] is False
    assert ask(calibrated, uri, none_of_these=True)["none_of_these"] is True
    assert "none_of_these" not in ask(calibrated, uri, none_of_these=False)


def test_with_multi_label_each_class_is_weighed_alone(
    calibrated: TestClient, uri: Callable[..., str]
) -> None:
    labels = ask(calibrated, uri, classes=["blue", "blue square"], multi_label=True)["labels"]
    assert [round(label["calibrated"]) for label in labels] == [1, 1]


def test_models_say_what_calibrated_them(calibrated: TestClient) -> None:
    told = calibrated.get("/v1/models/colours").json()["calibration"]
    assert told["source"] == {"photos": {"texts": "labels", "pictures": 50, "different": 5}}
    assert told["measured"]["mistakes"] == 0.09
