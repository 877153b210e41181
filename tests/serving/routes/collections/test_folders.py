"""Folders of the server's machine: added below those that are allowed, for local clients alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.background.folder_intake import require_local
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.failures import ForbiddenError
from twinlens.serving.keys import parse_keys
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

FOLDERS = "/collections/photos/folders"
Open = Callable[..., TestClient]


@pytest.fixture
def pictures(tmp_path: Path, squares: dict[str, bytes]) -> Path:
    """An allowed folder with pictures in it, a bad file, a hidden one, and a link that leaves."""
    root = tmp_path / "allowed"
    (root / "trip" / "day 1").mkdir(parents=True)
    (root / "trip" / ".private").mkdir()
    for colour, raw in squares.items():
        (root / "trip" / "day 1" / f"{colour}.png").write_bytes(raw)
        (root / "trip" / ".private" / f"{colour}.png").write_bytes(raw)
    (root / "trip" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "red.png").write_bytes(squares["red"])
    (root / "away").symlink_to(tmp_path / "secret")
    return root


@pytest.fixture
def opened(encoder: Any, tmp_path: Path) -> Iterator[Open]:
    closing: list[Callable[[], None]] = []

    def open_server(
        *, client: str = "127.0.0.1", server: str = "127.0.0.1", **given: Any
    ) -> TestClient:
        store = CollectionStore(tmp_path / "data")
        service = Service(ServerSettings(**given), lambda source, precision: encoder)
        service.load("colours", "colours")
        app = add_middleware(build_app(service, build_routers(service, store)))
        tab = TestClient(app, base_url=f"http://{server}", client=(client, 50_000))
        tab.__enter__()
        closing.extend([store.close, lambda: tab.__exit__(None, None, None)])
        tab.put("/collections/photos", json={}, headers=given.get("headers"))
        return tab

    yield open_server
    while closing:
        closing.pop()()


def add(client: TestClient, path: object, **headers: str) -> Any:
    return client.post(FOLDERS, json={"path": str(path)}, headers=headers)


def finish(client: TestClient, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    id = answer.json()["job"]["id"]
    for _ in range(400):
        job: dict[str, Any] = client.get(f"/jobs/{id}").json()
        if job["state"] in ("done", "failed"):
            return job
        time.sleep(0.02)
    raise AssertionError(job)


def list_ids(client: TestClient) -> set[str]:
    return {one["id"] for one in client.get("/collections/photos/items").json()["data"]}


def test_a_folder_becomes_searchable_and_bad_files_are_listed(
    opened: Open, pictures: Path, squares: dict[str, bytes]
) -> None:
    client = opened(folders=(str(pictures),))
    assert client.get("/folders").json()["roots"] == [str(pictures)]
    job = finish(client, add(client, pictures / "trip"))
    assert job["state"] == "done", job
    assert job["result"]["added"] == len(squares)
    assert [one["id"] for one in job["result"]["failed"]] == ["trip/bad.png"]
    assert list_ids(client) == {f"trip/day 1/{colour}.png" for colour in squares}
    found = client.post("/search", json={"collection": "photos", "text": "red", "k": 1}).json()
    assert found["data"][0]["id"] == "trip/day 1/red.png"
    picture = client.get("/collections/photos/pictures/trip/day 1/red.png")
    assert picture.content == squares["red"]
    assert str(pictures) not in client.get("/collections/photos/items").text


def test_adding_again_embeds_only_what_is_new(
    opened: Open, pictures: Path, squares: dict[str, bytes]
) -> None:
    client = opened(folders=(str(pictures),))
    finish(client, add(client, pictures / "trip"))
    (pictures / "trip" / "new.png").write_bytes(squares["blue"])
    result = finish(client, add(client, pictures / "trip"))["result"]
    assert (result["added"], result["unchanged"]) == (1, len(squares))


@pytest.mark.parametrize(
    "path", ["../secret", "away", "trip/.private", "nowhere", "trip/bad.png", "/", "~", "\0"]
)
def test_every_other_path_is_refused_in_the_same_words(
    opened: Open, pictures: Path, path: str
) -> None:
    client = opened(folders=(str(pictures),))
    answer = add(client, pictures / path if not path.startswith(("/", "~")) else path)
    if path == "\0":
        assert answer.status_code in (400, 403)
        return
    assert answer.status_code == 403, answer.text
    assert "this folder is not inside an allowed one" in answer.text
    assert list_ids(client) == set()


def test_nothing_is_added_unless_the_operator_allows_it(opened: Open, pictures: Path) -> None:
    client = opened()
    assert client.get("/folders").json() == {"object": "folders", "allowed": False, "roots": []}
    answer = add(client, pictures / "trip")
    assert answer.status_code == 403 and "--allow-folder" in answer.text


@pytest.mark.parametrize(
    ("client", "server", "headers"),
    [
        ("192.168.1.5", "127.0.0.1", {}),
        ("127.0.0.1", "192.168.1.4", {}),
        ("127.0.0.1", "127.0.0.1", {"x-forwarded-for": "8.8.8.8"}),
        ("127.0.0.1", "127.0.0.1", {"forwarded": "for=8.8.8.8"}),
    ],
)
def test_a_client_of_another_machine_is_refused(
    opened: Open, pictures: Path, client: str, server: str, headers: dict[str, str]
) -> None:
    tab = opened(client=client, server=server, folders=(str(pictures),))
    assert add(tab, pictures / "trip", **headers).status_code == 403
    assert tab.get("/folders", headers=headers).json()["roots"] == []


@pytest.mark.parametrize("address", ["", "localhost", "10.0.0.1", "::ffff:8.8.8.8", "2001:db8::1"])
def test_only_loopback_addresses_are_local(address: str) -> None:
    with pytest.raises(ForbiddenError):
        require_local(address, "127.0.0.1", {})
    require_local("::1", "127.0.0.1", {})


def test_adding_needs_a_key_that_writes(opened: Open, pictures: Path) -> None:
    keys = parse_keys("read:open-sesame write:open-barley")
    client = opened(folders=(str(pictures),), keys=keys)
    for key, status in (("", 401), ("open-sesame", 403)):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        assert add(client, pictures / "trip", **headers).status_code == status
        assert client.get("/folders", headers=headers).status_code == status


def test_the_page_of_another_origin_adds_nothing(opened: Open, pictures: Path) -> None:
    client = opened(folders=(str(pictures),))
    answer = add(client, pictures / "trip", **{"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403 and "another origin" in answer.text
