"""`/zeroshot`: labels best first, by the similarity node, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from twinlens.serving.zeroshot.templates import SETS


def ask(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    answer = client.post("/zeroshot", json=body)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


def test_the_right_class_comes_first_from_a_form_and_from_json(
    client: TestClient, image: Callable[..., bytes], uri: Callable[..., str]
) -> None:
    files = [("images", image((0, 0, 255))), ("images", image((255, 0, 0)))]
    form = client.post("/zeroshot", files=files, data={"classes": ["red", "green", "blue"]}).json()
    json = ask(client, images=[uri((0, 0, 255)), uri()], classes=["red", "green", "blue"])
    assert form["data"] == json
    assert [entry["labels"][0]["label"] for entry in json] == ["blue", "red"]
    assert [entry["index"] for entry in json] == [0, 1]
    assert form["revision"] == "a" * 64


def test_scores_are_a_distribution_and_sorted_and_carry_the_similarity(
    client: TestClient, uri: Callable[..., str]
) -> None:
    (entry,) = ask(client, images=[uri((200, 150, 0))], classes=["red", "green", "blue"])
    scores = [label["score"] for label in entry["labels"]]
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert scores == sorted(scores, reverse=True)
    assert entry["labels"][0]["index"] == 0
    assert -1 <= entry["labels"][0]["similarity"] <= 1


def test_scores_come_from_the_similarity_node(
    client: TestClient, encoder: Any, uri: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def marked(embeddings: Any, bank: Any) -> Any:
        return np.full((len(embeddings), len(bank)), 0.125, np.float32), embeddings @ bank.T

    monkeypatch.setattr(encoder, "classify", marked)
    (entry,) = ask(client, images=[uri()], classes=["red", "green"])
    assert {label["score"] for label in entry["labels"]} == {0.125}


def test_top_k_keeps_the_best(client: TestClient, uri: Callable[..., str]) -> None:
    (entry,) = ask(client, images=[uri()], classes=["green", "red", "blue"], top_k=1)
    assert [label["label"] for label in entry["labels"]] == ["red"]


def test_templates_are_averaged_and_normalised_again(
    client: TestClient, encoder: Any, uri: Callable[..., str]
) -> None:
    templates = ["{}", "a red {}", "blue, or a {}"]
    (entry,) = ask(client, images=[uri()], classes=["thing"], templates=templates)
    rows = encoder.encode_tokens(encoder.tokenize([t.replace("{}", "thing") for t in templates]))
    row = rows.mean(0) / np.linalg.norm(rows.mean(0))
    pixels = np.full((1, 8, 8, 3), (255, 0, 0), np.uint8)
    expected = float(encoder.encode_pixels(pixels)[0] @ row)
    assert entry["labels"][0]["similarity"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_named_templates_contain_the_placeholder_once(name: str) -> None:
    assert all(template.count("{}") == 1 for template in SETS[name])
    assert len(set(SETS[name])) == len(SETS[name])


def test_named_sets_and_aliases_are_understood(client: TestClient, uri: Callable[..., str]) -> None:
    plain = ask(client, images=[uri()], classes=["red", "blue"], templates="plain")
    alias = ask(client, images=[uri()], candidate_labels=["red", "blue"], hypothesis_template="{}")
    assert plain == alias
    answer = client.post("/zeroshot", json={"images": [uri()], "classes": ["a"], "templates": "x"})
    assert answer.status_code == 400
    assert "photo" in answer.json()["error"]["message"]


def test_braces_in_a_class_name_are_only_text(client: TestClient, uri: Callable[..., str]) -> None:
    (entry,) = ask(client, images=[uri()], classes=["{0.__class__} red {}"], templates=["a {}"])
    assert entry["labels"][0]["label"] == "{0.__class__} red {}"


def test_multi_label_scores_each_class_by_itself(
    client: TestClient, uri: Callable[..., str]
) -> None:
    alone = ask(client, images=[uri()], classes=["red"], multi_label=True)[0]["labels"][0]
    entries = ask(client, images=[uri()], classes=["red", "red rose", "blue"], multi_label=True)
    scores = {label["label"]: label["score"] for label in entries[0]["labels"]}
    assert scores["red"] == pytest.approx(alone["score"], rel=1e-4)
    assert scores["red"] > 0.9
    assert scores["red rose"] > 0.9
    assert scores["blue"] < 0.1


def test_none_of_these_is_decided_by_a_threshold_or_by_the_neutral_prompt(
    client: TestClient, uri: Callable[..., str]
) -> None:
    options: dict[str, Any] = {"images": [uri()], "classes": ["blue", "green"]}
    assert ask(client, **options, none_of_these=0.5)[0]["none_of_these"] is True
    assert ask(client, **options, none_of_these=-1.0)[0]["none_of_these"] is False
    assert ask(client, **options, none_of_these=True)[0]["none_of_these"] is True
    options["classes"] = ["red"]
    assert ask(client, **options, none_of_these=True)[0]["none_of_these"] is False


def test_a_bad_image_gets_an_error_in_its_entry(
    client: TestClient, uri: Callable[..., str]
) -> None:
    answer = client.post("/zeroshot", json={"images": ["AAAA", uri()], "classes": ["red", "blue"]})
    assert answer.headers["twinlens-failed-items"] == "1"
    bad, good = answer.json()["data"]
    assert bad["error"]["param"] == "images[0]"
    assert good["labels"][0]["label"] == "red"


def test_classes_are_built_once(client: TestClient, encoder: Any, uri: Callable[..., str]) -> None:
    ask(client, images=[uri()], classes=["red", "blue"])
    before = len(encoder.batches)
    ask(client, images=[uri()], classes=["red", "blue"])
    assert len(encoder.batches) == before + 1  # the image alone


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"classes": ["a"]}, "images"),
        ({"images": ["x"]}, "classes"),
        ({"images": ["x"], "classes": []}, "classes"),
        ({"images": ["x"], "classes": [""]}, "classes[0]"),
        ({"images": ["x"], "classes": ["a"], "classifier": "b"}, "classes"),
        ({"images": ["x"], "classes": ["a"], "top_k": 0}, "top_k"),
        ({"images": ["x"], "classes": ["a"], "none_of_these": 7}, "none_of_these"),
        ({"images": ["x"], "classes": ["a"], "templates": ["no placeholder"]}, "templates"),
        ({"images": ["x"], "classes": ["a"], "templates": 5}, "templates"),
        ({"images": [5], "classes": ["a"]}, "images[0]"),
        ({"images": ["x"], "classes": ["a"], "multilabel": True}, "multilabel"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, body: dict[str, Any], param: str) -> None:
    answer = client.post("/zeroshot", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_bank_too_large_for_a_request_says_where_to_store_it(
    client: TestClient, uri: Callable[..., str]
) -> None:
    classes = [f"class {i}" for i in range(100)]
    body = {"images": [uri()], "classes": classes, "templates": "broad"}
    answer = client.post("/zeroshot", json=body)
    assert answer.status_code == 413
    assert "PUT /classifiers" in answer.json()["error"]["message"]


def test_hugging_face_s_client_sends_one_image_and_reads_labels_alone(
    client: TestClient, uri: Callable[..., str]
) -> None:
    bare = uri().partition(",")[2]
    parameters = {"candidate_labels": ["blue", "red"], "hypothesis_template": "a {}"}
    told = client.post("/zeroshot", json={"inputs": bare, "parameters": parameters}).json()
    assert [one["label"] for one in told] == ["red", "blue"]
    assert set(told[0]) == {"label", "score"}
    wrong = client.post("/zeroshot", json={"inputs": bare, "parameters": {"labels": ["a"]}})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "parameters.labels")
