"""`twinlens index reembed`: prepare, compare, swap, go back; a server follows in between."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conftest import ToyModel, write_toy_bundle
from twinlens.bundle.encoder import open_bundle
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def turned(toy_model: ToyModel, tmp_path: Path) -> Path:
    """A bundle whose embeddings are those of the toy, turned."""
    model = ToyModel(toy_model.image_weight[:, ::-1].copy(), toy_model.text_weight[:, ::-1].copy())
    return write_toy_bundle(tmp_path / "turned", model)


@pytest.fixture
def client(built: Path, toy_bundle: Path, turned: Path) -> Iterator[TestClient]:
    store = CollectionStore()
    store.add("photos", built)
    service = Service(ServerSettings(), lambda source, precision: open_bundle(source))
    service.load("old", str(toy_bundle))
    service.load("new", str(turned))
    with TestClient(add_middleware(build_app(service, build_routers(service, store)))) as opened:
        yield opened
    store.close()


def wait_for(client: TestClient, model: str) -> None:
    """Ask until a model answers: the server opens new segments in the background."""
    end = time.monotonic() + 20
    while client.post("/search", json={"query": "red", "k": 1}).json()["model"] != model:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_searches_go_on_during_a_swap_and_each_answer_is_of_one_model(
    client: TestClient, cli: Run, built: Path, turned: Path
) -> None:
    models: Counter[str] = Counter()
    faults: list[Any] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            for colour in ("red", "green", "blue"):
                answer = client.post("/search", json={"query": colour, "k": 1})
                body = answer.json()
                if answer.status_code != 200 or body["data"][0]["id"] != f"{colour}.png":
                    faults.append(body)
                    return
                models[body["model"]] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    code, _, err = cli("index", "reembed", built, "--bundle", turned, "--swap")
    assert code == 0, err
    wait_for(client, "new")
    code, _, err = cli("index", "reembed", built, "--back")
    assert code == 0, err
    wait_for(client, "old")
    stop.set()
    thread.join()
    assert faults == []
    assert models["old"] > 0


def test_the_replaced_model_is_refused_and_items_are_written_by_the_new_one(
    client: TestClient, cli: Run, built: Path, turned: Path
) -> None:
    item = {"query": [{"item": "red.png"}, {"text": "red"}], "k": 1}
    assert client.post("/search", json=item).json()["data"][0]["id"] == "red.png"
    assert cli("index", "reembed", built, "--bundle", turned, "--swap")[0] == 0
    wait_for(client, "new")
    refused = client.post("/search", json={"query": "red", "model": "old"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "bundle_mismatch")
    assert client.post("/search", json=item).json()["data"][0]["id"] == "red.png"
    items = [{"id": "told", "text": "a red square"}]
    told = client.post("/collections/photos/items", json={"items": items})
    assert (told.status_code, told.headers["twinlens-model"]) == (200, "new")
    described = client.get("/collections/photos").json()
    assert described["bundle"]["revision"] == open_bundle(turned).revision


def search(cli: Run, folder: Path, text: str) -> str:
    code, out, err = cli("search", folder, text, "-k", "1", "--json")
    assert code == 0, err
    found: str = json.loads(out)[0]["id"]
    return found


def test_bundles_are_compared_and_nothing_changes_without_swap(
    cli: Run, built: Path, toy_bundle: Path, turned: Path, tmp_path: Path
) -> None:
    queries = tmp_path / "queries.txt"
    queries.write_text("red\na photo of a blue square\n")
    reembed = ("index", "reembed", built, "--bundle", turned)
    code, out, err = cli(*reembed, "--queries", queries, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["staged"], told["texts"], told["images"]) == (3, 2, 3)
    assert (told["text_agreement"], told["image_agreement"]) == (1.0, 1.0)
    code, _, err = cli("search", built, "red", "--bundle", turned)
    assert (code, "was built with bundle" in err) == (2, True)
    assert search(cli, built, "red") == "red.png"
    code, out, err = cli(*reembed, "--swap")
    assert code == 0, err
    assert "texts: 100% of the ten best are the same" in out
    assert "3 items now use" in err
    assert search(cli, built, "blue") == "blue.png"
    assert cli("index", "verify", built)[0] == 0
    code, _, err = cli(*reembed, "--swap")
    assert (code, "already" in err) == (2, True)


def test_staged_embeddings_are_discarded(cli: Run, built: Path, turned: Path) -> None:
    assert cli("index", "reembed", built, "--bundle", turned)[0] == 0
    assert (built / "next").exists()
    code, _, err = cli("index", "reembed", built, "--discard")
    assert (code, "removed" in err, (built / "next").exists()) == (0, True, False)
    code, _, err = cli("index", "reembed", built, "--back")
    assert (code, "nothing to go back to" in err) == (2, True)


@pytest.mark.parametrize("options", [(), ("--back", "--discard"), ("-b", "x", "--back")])
def test_one_thing_at_a_time(cli: Run, built: Path, options: tuple[str, ...]) -> None:
    code, _, err = cli("index", "reembed", built, *options)
    assert (code, "one of --bundle, --back and --discard" in err) == (2, True)
