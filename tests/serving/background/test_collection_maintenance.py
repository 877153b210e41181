"""Builds of collections as jobs: with progress, beside searches and upserts, resumed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from twinlens.index import maintenance
from twinlens.index.ann import policy, tuner
from twinlens.index.collection import Collection
from twinlens.index.writer import Writer, create_collection
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

COUNT = 2500
DIM = 16
Start = Callable[[], TestClient]


@pytest.fixture(autouse=True)
def _quick_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "FILTERED_QUERIES", 40)
    monkeypatch.setattr(maintenance, "SAMPLE_QUERIES", 200)


@pytest.fixture
def start(encoder: Any, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a server on one folder, after stopping the last one."""
    running: list[tuple[TestClient, CollectionStore]] = []

    def stop() -> None:
        while running:
            client, store = running.pop()
            client.__exit__(None, None, None)
            store.close()

    def begin() -> TestClient:
        stop()
        store = CollectionStore(tmp_path / "data" / "collections")
        service = Service(ServerSettings(data=tmp_path / "data"), lambda source, precision: encoder)
        service.load("colours", "colours")
        client = TestClient(add_middleware(build_app(service, build_routers(service, store))))
        running.append((client.__enter__(), store))
        return client

    yield begin
    stop()


@pytest.fixture
def rows(tmp_path: Path) -> np.ndarray[Any, Any]:
    """Return the rows of a collection in the server's folder."""
    folder = tmp_path / "data" / "collections" / "c"
    create_collection(folder, dim=DIM, bundle_name="colours", bundle_revision="a" * 64)
    made = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)
    with Writer(folder) as writer:
        writer.upsert([f"i{n}" for n in range(COUNT)], made)
        writer.delete(["i0"])
    return made


class PausedStep:
    """A step of a build that waits until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.calls = 0
        self._entered, self._leave = threading.Event(), threading.Event()
        self._plain = getattr(maintenance, name)
        monkeypatch.setattr(maintenance, name, self._step)

    def wait(self) -> None:
        """Return when the build has reached the step."""
        assert self._entered.wait(20)

    def release(self, seconds: float = 0.0) -> None:
        """Let the build continue, now or after some seconds."""
        threading.Timer(seconds, self._leave.set).start()

    def _step(self, *arguments: Any) -> Any:
        self.calls += 1
        self._entered.set()
        assert self._leave.wait(20)
        return self._plain(*arguments)


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], PausedStep]:
    """Return a function that pauses builds at a step of `maintenance`."""
    return lambda name: PausedStep(monkeypatch, name)


def wait(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    for _ in range(600):
        finished: dict[str, Any] = client.get(f"/jobs/{job['id']}").json()
        if finished["state"] in ("done", "failed"):
            return finished
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def build(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/collections/c/build", json=body)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()["job"]
    return job


@pytest.mark.usefixtures("rows")
def test_a_build_compacts_indexes_and_reports_the_recall(start: Start) -> None:
    client = start()
    queries = [f"red {n}" for n in range(50)]
    job = build(client, kind="sq8", target=0.9, compact=True, queries=queries)
    finished = wait(client, job)
    assert (finished["state"], finished["error"]) == ("done", None)
    assert (finished["kind"], finished["progress"], finished["stage"]) == ("collection", 1.0, None)
    assert finished["result"]["segments"] == ["sq8"]
    # Of texts too, since they were sampled.
    assert min(finished["result"]["recall"].values()) >= 0.9
    shown = client.get("/collections/c").json()
    assert (shown["exact"], shown["count"]) == (False, COUNT - 1)


@pytest.mark.parametrize(
    ("body", "word"),
    [({"kind": "fancy"}, "fancy"), ({"target": 2}, "target"), ({"speed": 1}, "speed")],
)
@pytest.mark.usefixtures("rows")
def test_an_impossible_build_is_refused_before_it_becomes_a_job(
    start: Start, body: dict[str, Any], word: str
) -> None:
    client = start()
    answer = client.post("/collections/c/build", json=body)
    assert answer.status_code == 400
    assert word in answer.json()["error"]["message"]
    assert client.get("/jobs").json()["data"] == []


def test_searches_and_upserts_continue_while_a_build_runs(
    start: Start, rows: np.ndarray[Any, Any], hold: Callable[[str], PausedStep]
) -> None:
    paused = hold("build_index")
    client = start()
    job = build(client, kind="sq8", target=0.9)
    paused.wait()
    assert client.get(f"/jobs/{job['id']}").json()["stage"] == "building sq8"
    answer = client.post("/collections/c/build", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "build_running")
    item = {"id": "late", "vector": [1.0] * DIM}
    assert client.post("/collections/c/items", json={"items": [item]}).status_code == 200
    found = client.post("/search", json={"vector": [1.0] * DIM, "k": 1}).json()["data"]
    assert found[0]["id"] == "late"
    paused.release()
    assert wait(client, job)["state"] == "done"
    body = {"vector": rows[7].tolist(), "k": 1}
    assert client.post("/search", json=body).json()["data"][0]["id"] == "i7"


@pytest.mark.usefixtures("rows")
def test_an_interrupted_build_is_restarted(
    start: Start, hold: Callable[[str], PausedStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = hold("_samples")
    client = start()
    job = build(client, kind="sq8", target=0.9)
    paused.wait()
    paused.release(0.3)  # the server is asked to stop before it can continue
    monkeypatch.setattr(maintenance, "_samples", paused._plain)
    client = start()
    assert wait(client, job)["state"] == "done"
    assert client.get("/collections/c").json()["exact"] is False
    assert paused.calls == 1


@pytest.mark.usefixtures("rows")
def test_deleting_a_collection_ends_its_build(
    start: Start, hold: Callable[[str], PausedStep]
) -> None:
    paused = hold("_samples")
    client = start()
    job = build(client, kind="sq8", target=0.9)
    paused.wait()
    paused.release(0.3)
    assert client.delete("/collections/c").json()["deleted"] is True
    finished = wait(client, job)
    assert finished["state"] == "failed"
    assert "removed" in finished["error"]
    assert client.get("/collections").json()["data"] == []


@pytest.mark.usefixtures("rows")
def test_upserts_that_leave_too_much_unindexed_start_a_build(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "EXACT_ROWS", 50)  # rows of 512 dimensions
    client = start()
    item = {"id": "late", "vector": [1.0] * DIM}
    assert client.post("/collections/c/items", json={"items": [item]}).status_code == 200
    jobs = client.get("/jobs").json()["data"]
    assert [job["kind"] for job in jobs] == ["collection"]
    assert wait(client, jobs[0])["result"]["segments"] in (["ivf-rabitq4"], ["sq8"])  # by the CPU
    item["id"] = "later"
    assert client.post("/collections/c/items", json={"items": [item]}).status_code == 200
    assert len(client.get("/jobs").json()["data"]) == 1  # few rows are unindexed now


@pytest.mark.usefixtures("rows")
def test_a_server_that_only_deletes_compacts(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "collections" / "c"
    with Writer(folder) as writer:
        writer.seal()
    client = start()
    few = [f"i{n}" for n in range(1, 100)]
    answer = client.request("DELETE", "/collections/c/items", json={"ids": few})
    assert answer.json()["deleted"] == 99
    assert client.get("/jobs").json()["data"] == []  # too few to be worth it
    many = [f"i{n}" for n in range(100, 1500)]
    client.request("DELETE", "/collections/c/items", json={"ids": many})
    jobs = client.get("/jobs").json()["data"]
    assert [job["kind"] for job in jobs] == ["collection"]
    assert wait(client, jobs[0])["state"] == "done"
    with Collection(folder) as reader:
        assert [len(part.segment) for part in reader.snapshot().parts] == [COUNT - 1500]


@pytest.mark.usefixtures("rows")
def test_deletions_that_make_a_recall_stale_have_it_measured_anew(start: Start) -> None:
    client = start()
    assert wait(client, build(client, kind="hnsw", target=0.9))["result"]["segments"] == ["hnsw"]
    shown = client.get("/collections/c").json()
    assert shown["recall_state"]["image"] == "measured"
    gone = [f"i{n}" for n in range(0, COUNT, 8)]
    client.request("DELETE", "/collections/c/items", json={"ids": gone})
    jobs = client.get("/jobs").json()["data"]
    assert len(jobs) == 2
    told = [wait(client, job) for job in jobs]
    assert {one["state"] for one in told} == {"done"}
    assert all(one["result"]["segments"] == ["hnsw"] for one in told)  # what was asked for stays
    assert client.get("/collections/c").json()["recall_state"]["image"] == "measured"


@pytest.mark.usefixtures("rows")
def test_collections_are_in_the_metrics(start: Start) -> None:
    client = start()
    client.get("/collections/c/map")
    client.get("/collections/c/map")
    metrics = client.get("/metrics").text
    assert f'twinlens_collection_items{{collection="c"}} {COUNT - 1}.0' in metrics
    assert 'twinlens_collection_recall{collection="c",modality="text"} 1.0' in metrics
    assert 'twinlens_collection_maps_total{collection="c"} 1.0' in metrics  # the second was cached
    assert 'twinlens_thumbnails_total{collection="c",result="made"} 0.0' in metrics
