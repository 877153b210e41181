"""Stored classifiers: from names, examples or both; kept across restarts; large ones as jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from twinlens.bundle.encoder import open_bundle
from twinlens.serving.jobs import Job
from twinlens.serving.settings import Limits, ServerSettings
from twinlens.serving.zeroshot.banks import ClassBank
from twinlens.serving.zeroshot.classifiers import Classifier, ClassifierStore, pack, unpack


def best(client: TestClient, image: str, **body: Any) -> str:
    answer = client.post("/zeroshot", json={"images": [image], **body})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"][0]["labels"][0]["label"])


def wait_for_job(client: TestClient, name: str) -> dict[str, Any]:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        job: dict[str, Any] = client.get(f"/jobs/{name}").json()
        if job["state"] in ("done", "failed"):
            return job
        time.sleep(0.01)
    raise AssertionError(f"job {name} did not end")


def test_a_classifier_from_names_answers_like_the_same_classes(
    client: TestClient, uri: Callable[..., str]
) -> None:
    classes = ["red", "green", "blue"]
    made = client.put("/classifiers/rgb", json={"classes": classes, "templates": "photo"})
    assert made.status_code == 201, made.text
    stored = client.post("/zeroshot", json={"images": [uri()], "classifier": "rgb"}).json()
    direct = client.post(
        "/zeroshot", json={"images": [uri()], "classes": classes, "templates": "photo"}
    ).json()
    for by_name, other in zip(
        stored["data"][0]["labels"], direct["data"][0]["labels"], strict=True
    ):
        assert by_name["label"] == other["label"]
        assert by_name["similarity"] == pytest.approx(other["similarity"], abs=1e-6)
    assert client.put("/classifiers/rgb", json={"classes": classes}).status_code == 200


def test_a_warm_call_encodes_only_the_image(
    client: TestClient, encoder: Any, uri: Callable[..., str]
) -> None:
    client.put("/classifiers/rgb", json={"classes": ["red", "green"]})
    before = len(encoder.batches)
    best(client, uri(), classifier="rgb")
    assert len(encoder.batches) == before + 1


def test_examples_alone_make_a_classifier_for_an_image_only_bundle(
    make_client: Callable[..., TestClient], make_encoder: Any, uri: Callable[..., str]
) -> None:
    encoder = make_encoder()
    encoder.manifest = replace(encoder.manifest, text=None)
    client = make_client(opener=lambda source, precision: encoder)
    classes = [
        {"name": "warm", "examples": [uri((255, 0, 0)), uri((255, 60, 0))]},
        {"name": "cold", "examples": [uri((0, 0, 255))]},
    ]
    made = client.put("/classifiers/heat", json={"classes": classes})
    assert made.status_code == 201, made.text
    assert made.json()["examples"] == 3
    assert best(client, uri((250, 20, 10)), classifier="heat") == "warm"
    assert best(client, uri((10, 20, 250)), classifier="heat") == "cold"
    answer = client.put("/classifiers/heat", json={"classes": ["warm"]})
    assert answer.status_code == 400
    assert "example" in answer.json()["error"]["message"]


def test_examples_arrive_as_a_form_too(
    client: TestClient, image: Callable[..., bytes], uri: Callable[..., str]
) -> None:
    files = [
        ("examples:night", ("a", image((0, 0, 90)))),
        ("examples:night", ("b", image((0, 0, 120)))),
        ("examples:day", ("c", image((255, 255, 255)))),
    ]
    made = client.put("/classifiers/time", files=files, data={"text_weight": "none"})
    assert made.json()["error"]["param"] == "text_weight"
    made = client.put("/classifiers/time", files=files, data={"text_weight": "0"})
    assert made.status_code == 201, made.text
    assert sorted(made.json()["classes"]) == ["day", "night"]
    assert best(client, uri((0, 0, 100)), classifier="time") == "night"


def test_text_weight_balances_names_and_examples(
    client: TestClient, uri: Callable[..., str]
) -> None:
    # "red" with a blue example: the weight decides which of the two the class resembles.
    classes = [{"name": "red", "examples": [uri((0, 0, 255))]}, "green"]
    client.put("/classifiers/text", json={"classes": classes, "text_weight": 1.0})
    client.put("/classifiers/shown", json={"classes": classes, "text_weight": 0.0})

    def similarity(name: str) -> float:
        body = {"images": [uri((0, 0, 255))], "classifier": name}
        labels = client.post("/zeroshot", json=body).json()["data"][0]["labels"]
        return next(float(x["similarity"]) for x in labels if x["label"] == "red")

    assert similarity("text") < 0.5 < 0.999 < similarity("shown")


def test_a_bad_example_names_itself_and_stores_nothing(
    client: TestClient, uri: Callable[..., str]
) -> None:
    classes = [{"name": "a", "examples": [uri()]}, {"name": "b", "examples": [uri(), "AAAA"]}]
    answer = client.put("/classifiers/x", json={"classes": classes})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "classes[1].examples[1]"
    assert client.get("/classifiers/x").status_code == 404


def test_classifiers_survive_a_restart(
    make_client: Callable[..., TestClient], tmp_path: Path, uri: Callable[..., str]
) -> None:
    settings = ServerSettings(data=tmp_path)
    made = make_client(settings).put("/classifiers/rgb", json={"classes": ["red", "blue"]})
    again = make_client(settings)
    assert best(again, uri(), classifier="rgb") == "red"
    assert again.get("/classifiers/rgb").json()["created"] == made.json()["created"]
    assert again.delete("/classifiers/rgb").status_code == 200
    assert make_client(settings).get("/classifiers/rgb").status_code == 404


def test_a_classifier_of_another_revision_is_refused_until_rebuilt(
    make_client: Callable[..., TestClient],
    make_encoder: Any,
    tmp_path: Path,
    uri: Callable[..., str],
) -> None:
    settings = ServerSettings(data=tmp_path)
    make_client(settings).put("/classifiers/rgb", json={"classes": ["red", "blue"]})
    other = make_client(settings, opener=lambda source, precision: make_encoder("b" * 64))
    answer = other.post("/zeroshot", json={"images": [uri()], "classifier": "rgb"})
    assert answer.status_code == 409
    assert "aaaaaaaaaaaa" in answer.json()["error"]["message"]
    assert other.put("/classifiers/rgb", json={"classes": ["red"]}).status_code == 201
    assert len(other.get("/classifiers/rgb").json()["revisions"]) == 2


def test_a_damaged_file_is_skipped_and_the_rest_is_loaded(tmp_path: Path) -> None:
    store = ClassifierStore(tmp_path)
    bank = ClassBank(("a", "b"), np.eye(2, dtype=np.float32), np.ones(2, np.float32))
    for name in ("one", "two"):
        store.put(Classifier(name, "r", bank, 1.0))
    first = sorted(tmp_path.glob("*.npz"))[0]
    first.write_bytes(first.read_bytes()[:100])
    assert len(ClassifierStore(tmp_path).all()) == 1


def test_unpacking_restores_what_was_packed() -> None:
    rows = np.random.default_rng(0).random((3, 5), np.float32)
    bank = ClassBank(("a", "ü", "c" * 500), rows, rows[0])
    made = Classifier("n", "r", bank, 12.5, ("{}",), 7)
    found = unpack(pack(made))
    assert np.array_equal(found.bank.rows, rows)
    assert found.describe() == made.describe()


def test_no_temporary_file_is_left_and_no_name_becomes_a_path(tmp_path: Path) -> None:
    bank = ClassBank(("a",), np.ones((1, 2), np.float32), np.ones(2, np.float32))
    ClassifierStore(tmp_path / "c").put(Classifier("../../evil", "r", bank, 1.0))
    (only,) = tmp_path.rglob("*.*")
    assert only.parent == tmp_path / "c"
    assert "evil" not in only.name


def test_a_large_classifier_is_built_as_a_job_with_progress(
    make_client: Callable[..., TestClient], tmp_path: Path, uri: Callable[..., str]
) -> None:
    client = make_client(ServerSettings(data=tmp_path, limits=Limits(prompts=50)))
    classes = ["red", "blue", *(f"thing {i}" for i in range(28))]
    answer = client.put("/classifiers/big", json={"classes": classes, "templates": "photo"})
    assert answer.status_code == 202, answer.text
    job = wait_for_job(client, answer.json()["job"]["id"])
    assert (job["state"], job["done"], job["progress"]) == ("done", 30, 1.0)
    assert "spec" not in job
    assert best(client, uri(), classifier="big") == "red"
    assert [j["id"] for j in client.get("/jobs").json()["data"]] == [job["id"]]
    assert client.get("/jobs/none").status_code == 404


def test_a_job_and_a_request_build_the_same_rows(client: TestClient) -> None:
    body = {"classes": ["red", "green", "x"], "templates": "product"}
    client.put("/classifiers/here", json=body)
    answer = client.put("/classifiers/there", json={**body, "background": True})
    wait_for_job(client, answer.json()["job"]["id"])
    store = client.service.classifiers  # type: ignore[attr-defined]
    here, there = (store.find(name)[0].bank for name in ("here", "there"))
    assert np.array_equal(here.rows, there.rows)
    assert np.array_equal(here.neutral, there.neutral)


def test_an_interrupted_job_resumes_from_its_saved_rows(
    make_client: Callable[..., TestClient], make_encoder: Any, tmp_path: Path
) -> None:
    settings = ServerSettings(data=tmp_path)
    classes = [f"thing {i}" for i in range(24)]
    service = make_client(settings).service  # type: ignore[attr-defined]
    spec = {
        "name": "big",
        "model": "colours",
        "revision": "a" * 64,
        "classes": classes,
        "templates": ["{}"],
    }
    # The files of a killed process: a record with state "running", and part of the rows.
    job = Job("classifier", spec, total=24, state="running")
    service.jobs._record(job)
    partial = np.full((16, 16), 0.25, np.float32)
    np.savez(tmp_path / "jobs" / f"{job.id}.partial.npz", rows=partial)
    encoder = make_encoder()
    client = make_client(settings, opener=lambda source, precision: encoder)
    assert wait_for_job(client, job.id)["state"] == "done"
    rows = client.service.classifiers.find("big")[0].bank.rows  # type: ignore[attr-defined]
    assert np.array_equal(rows[:16], partial)
    assert sum(encoder.batches) == 8 + 1  # the missing rows, and the neutral prompt
    assert not list((tmp_path / "jobs").glob("*.partial.npz"))


def test_a_job_whose_model_was_replaced_fails_and_says_so(
    make_client: Callable[..., TestClient], tmp_path: Path
) -> None:
    settings = ServerSettings(data=tmp_path)
    service = make_client(settings).service  # type: ignore[attr-defined]
    spec = {
        "name": "big",
        "model": "colours",
        "revision": "b" * 64,
        "classes": ["a"],
        "templates": ["{}"],
    }
    job = Job("classifier", spec, total=1, state="running")
    service.jobs._record(job)
    found = wait_for_job(make_client(settings), job.id)
    assert found["state"] == "failed"
    assert "another revision" in found["error"]


@pytest.mark.parametrize("name", ["..", "a b", "a%2Fb", ".hidden", "x" * 65, "é"])
def test_an_invalid_name_is_refused(client: TestClient, name: str) -> None:
    answer = client.put(f"/classifiers/{name}", json={"classes": ["a"]})
    assert answer.status_code in (400, 404, 405)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "classes"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"classes": [{"examples": ["x"]}]}, "classes[0].name"),
        ({"classes": [{"name": "a", "examples": [5]}]}, "classes[0].examples[0]"),
        ({"classes": ["a"], "text_weight": 2}, "text_weight"),
        ({"classes": ["a"], "labels": ["b"]}, "labels"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, body: dict[str, Any], param: str) -> None:
    answer = client.put("/classifiers/x", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("templates", ["plain", "icon", None])
def test_the_builtin_bundle_stores_classifiers_with_any_templates(
    make_client: Callable[..., TestClient],
    squares: dict[str, bytes],
    templates: str | None,
    background: bool,
) -> None:
    client = make_client(opener=lambda source, precision: open_bundle(threads=1, verify=False))
    body = {"classes": ["red square", "blue square"], "background": background}
    made = client.put("/classifiers/c", json={**body, "templates": templates})
    assert made.status_code in (201, 202), made.text
    if background:
        assert wait_for_job(client, made.json()["job"]["id"])["state"] == "done"
    form = {"classifier": "c", "multi_label": "true", "none_of_these": "true"}
    answer = client.post("/zeroshot", files=[("images", squares["red"])], data=form)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"][0]["labels"]) == 2
