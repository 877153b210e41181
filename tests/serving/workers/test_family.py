"""What one process promises holds for all of them: keys, writers, swaps, metrics, limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.serving.conftest import FakeEncoder, encode_image
from tests.serving.workers.conftest import ColourFamily

PNG = {"content-type": "image/png"}
KEYS = "reader=read:reading-key,writer=write:writing-key,boss=admin:master-key"
READ, WRITE, ADMIN = (
    {"authorization": f"Bearer {key}"} for key in ("reading-key", "writing-key", "master-key")
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ColourFamily]:
    """A server with keys, a data folder and two bundles to swap."""
    folder = tmp_path_factory.mktemp("kept")
    for name in ("b", "c"):
        (folder / "bundles" / name).mkdir(parents=True)
        (folder / "bundles" / name / "bundle.json").write_text("{}")
    family = ColourFamily(
        "log_requests=false",
        "limits.key_requests_per_minute=100000",
        COLOURS_KEYS=KEYS,
        COLOURS_DATA=str(folder / "data"),
        COLOURS_BUNDLES=str(folder / "bundles"),
    )
    yield family
    assert family.stop() == 0, family.log


def of_each(family: ColourFamily, **options: Any) -> Iterator[httpx.Client]:
    """Yield clients of different HTTP processes: the keeper deals connections out in turn."""
    with ExitStack() as stack:
        clients = [httpx.Client(base_url=family.url, timeout=30, **options) for _ in range(2)]
        for client in clients:
            stack.enter_context(client).get("/healthz")  # both are connected before either asks
        yield from clients


def test_every_process_knows_the_keys(kept: ColourFamily) -> None:
    for client in of_each(kept):
        assert client.post("/embed", json={"texts": ["red"]}).status_code == 401
        assert client.put("/classifiers/x", json={"classes": ["a"]}).status_code == 401
        given = client.put("/classifiers/x", json={"classes": ["a"]}, headers=READ)
        assert given.status_code == 403
        assert client.post("/embed", json={"texts": ["red"]}, headers=READ).status_code == 200


def test_a_classifier_is_everywhere_when_it_is_acknowledged(kept: ColourFamily) -> None:
    body = {"classes": ["red", "green", "blue"]}
    made = kept.client.put("/classifiers/colour", json=body, headers=WRITE)
    assert made.status_code == 201, made.text
    for client in of_each(kept, headers=READ):
        answer = client.post(
            "/zeroshot", files={"images": encode_image((0, 255, 0))}, data={"classifier": "colour"}
        )
        assert answer.json()["data"][0]["labels"][0]["label"] == "green"
        assert client.get("/classifiers/colour").json()["classes"] == body["classes"]
    assert kept.client.delete("/classifiers/colour", headers=WRITE).status_code == 200
    for client in of_each(kept, headers=READ):
        answer = client.post(
            "/zeroshot", files={"images": encode_image()}, data={"classifier": "colour"}
        )
        assert answer.status_code == 404


def test_the_lexicon_that_one_process_makes_is_the_servers(kept: ColourFamily) -> None:
    answer = kept.client.post("/tag", files={"images": encode_image()}, headers=READ)
    assert answer.status_code == 200, answer.text
    for client in of_each(kept, headers=READ):
        for _ in range(100):
            if client.get("/classifiers/lexicon").status_code == 200:
                break
        assert client.get("/classifiers/lexicon").json()["examples"] == 0


def test_a_collection_is_searched_by_every_process_as_soon_as_it_is_written(
    kept: ColourFamily,
) -> None:
    made = kept.client.put("/collections/things", json={}, headers=WRITE)
    assert made.status_code in (200, 201), made.text
    items = [{"id": name, "text": name} for name in ("red", "green", "blue")]
    written = kept.client.post("/collections/things/items", json={"items": items}, headers=WRITE)
    assert written.status_code == 200, written.text
    for client in of_each(kept, headers=READ):
        found = client.post("/search", json={"collection": "things", "query": "green", "k": 1})
        assert [hit["id"] for hit in found.json()["data"]] == ["green"], found.text
    gone = kept.client.request(
        "DELETE", "/collections/things/items", json={"ids": ["green"]}, headers=WRITE
    )
    assert gone.status_code == 200, gone.text
    for client in of_each(kept, headers=READ):
        found = client.post("/search", json={"collection": "things", "query": "green", "k": 3})
        assert "green" not in [hit["id"] for hit in found.json()["data"]]
    assert kept.client.delete("/collections/things", headers=WRITE).status_code == 200
    for client in of_each(kept, headers=READ):
        found = client.post("/search", json={"collection": "things", "query": "red"})
        assert found.status_code == 404


def test_a_swap_under_load_fails_no_request_and_mixes_no_answer(kept: ColourFamily) -> None:
    expected = {
        letter * 64: FakeEncoder(letter * 64).encode_tokens([[256, *b"red", 257]])[0]
        for letter in "abc"
    }
    wrong: list[str] = []
    seen: set[str] = set()
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=kept.url, timeout=30, headers=READ) as client:
            while not ended.is_set():
                answer = client.post("/embed", json={"texts": ["red", "red"], "images": None})
                answer = client.post("/embed", json={"inputs": [{"text": "red"}]})
                if answer.status_code != 200:
                    wrong.append(answer.text)
                    continue
                body = answer.json()
                row = np.array(body["embeddings"][0], np.float32)
                seen.add(body["revision"])
                if not np.allclose(row, expected[body["revision"]], atol=1e-5):
                    wrong.append(f"{body['revision'][:4]}: {row[:4]}")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for letter in ("b", "c", "b"):
            told = kept.client.put("/v1/models/colours", json={"bundle": letter}, headers=ADMIN)
            assert told.status_code == 200, told.text
            assert told.json()["revision"] == letter * 64
            for client in of_each(kept, headers=READ):
                assert (
                    client.post("/embed", json={"texts": ["x"]}).json()["revision"] == letter * 64
                )
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert {"b" * 64, "c" * 64} <= seen


def test_a_second_model_comes_and_goes_in_every_process(kept: ColourFamily) -> None:
    made = kept.client.put("/v1/models/more", json={"bundle": "c"}, headers=ADMIN)
    assert made.status_code == 200, made.text
    for client in of_each(kept, headers=READ):
        answer = client.post("/embed", json={"texts": ["red"], "model": "more"})
        assert answer.json()["revision"] == "c" * 64
    assert kept.client.delete("/v1/models/more", headers=ADMIN).status_code == 200
    for client in of_each(kept, headers=READ):
        answer = client.post("/embed", json={"texts": ["red"], "model": "more"})
        assert answer.status_code == 404
    missing = kept.client.put("/v1/models/more", json={"bundle": "none"}, headers=ADMIN)
    assert missing.status_code == 404


def test_metrics_are_the_sum_over_all_processes(colours: ColourFamily) -> None:
    def count(line: str) -> float:
        lines = colours.client.get("/metrics").text.splitlines()
        return sum(float(one.rsplit(" ", 1)[1]) for one in lines if one.startswith(line))

    line = 'twinlens_requests_total{path="/embed",status="200"}'
    items = 'twinlens_batch_items_sum{model="colours",tower="image"}'
    before, batched = count(line), count(items)
    for client in of_each(colours):
        for _ in range(3):
            client.post("/embed", content=encode_image(), headers=PNG)
    assert (count(line) - before, count(items) - batched) == (6, 6)
    assert count("twinlens_ready") == 1
    assert count('twinlens_requests_total{path="/metrics"') >= 1, "counted by who answered"


def test_a_request_keeps_its_id_through_both_processes(colours: ColourFamily) -> None:
    answer = colours.client.get("/jobs", headers={"x-request-id": "mine"})
    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert answer.headers.get_list("x-frame-options") == ["DENY"]
    assert colours.client.head("/jobs").status_code == 200
    assert colours.client.get("/nowhere").status_code == 404
    wrong = colours.client.post("/jobs")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")


def test_a_full_server_refuses_before_it_reads_a_body(start_family: Callable[..., Any]) -> None:
    family = start_family("limits.image_queue=2", "limits.requests_in_flight=2")
    statuses: list[int] = []

    def ask() -> None:
        answer = httpx.post(f"{family.url}/embed", content=encode_image((3, 2, 1)), headers=PNG)
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200, 429}
    again = family.client.post("/embed", content=encode_image(), headers=PNG)
    assert again.status_code == 200


def test_limits_that_are_shared_refuse_no_request_that_one_process_accepts(
    start_family: Callable[..., Any],
) -> None:
    family = start_family(
        "limits.image_queue=8",
        "limits.text_queue=8",
        "limits.key_requests_per_minute=4",
        COLOURS_KEYS=KEYS,
    )
    files = [("images", encode_image((10 * i, 0, 0))) for i in range(8)]
    many = family.client.post("/embed", files=files, headers=READ)
    assert many.status_code == 200, "more than a process's share of the queue, by parts"
    assert len(many.json()["embeddings"]) == 8
    texts = family.client.post("/embed", json={"texts": list("abcdefgh")}, headers=WRITE)
    assert texts.status_code == 200, texts.text
    statuses = []
    for _ in range(2):  # whichever process counts, a key has four requests a minute
        for client in of_each(family, headers=ADMIN):
            answers = [client.post("/embed", json={"texts": ["red"]}) for _ in range(3)]
            statuses += [answer.status_code for answer in answers]
    assert statuses.count(200) == 4
    assert statuses.count(429) == 8


def test_a_server_that_cannot_open_its_bundle_says_so_in_one_line(tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "twinlens.cli.main", "serve", str(tmp_path / "none")]
    told = subprocess.run(
        [*command, "--workers", "2", "--port", "0"], capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 2
    assert told.stderr.startswith("error: "), told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
