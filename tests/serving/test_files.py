"""What the server keeps: a full disk is told as that, and one server owns a data folder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from twinlens.errors import LockedError
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.files import own_folder, write_file
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings


@pytest.fixture
def client(encoder: Any, tmp_path: Path) -> Iterator[TestClient]:
    service = Service(ServerSettings(data=tmp_path), lambda source, precision: encoder)
    service.load("colours", "colours")
    store = CollectionStore(tmp_path / "collections")
    with TestClient(add_middleware(build_app(service, build_routers(service, store)))) as opened:
        yield opened
    store.close()


def refuse_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check_full(answer: Any) -> None:
    assert answer.status_code == 507, answer.text
    assert answer.json()["error"]["code"] == "disk_full"


def test_a_full_disk_is_a_507_for_classifiers_and_jobs_and_passes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = {"classes": ["red"]}, {"classes": ["red"], "background": True}
    with monkeypatch.context() as full:
        full.setattr("twinlens.serving.files.os.fsync", refuse_space)
        check_full(client.put("/classifiers/pets", json=small))
        check_full(client.put("/classifiers/pets", json=large))
        assert client.get("/classifiers").json()["data"] == []
        assert client.get("/jobs").json()["data"] == []
    assert client.put("/classifiers/pets", json=small).status_code == 201
    assert client.put("/classifiers/pets", json=large).status_code == 202


def test_a_full_disk_is_a_507_for_a_new_collection_and_passes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr("twinlens.index.writer.sync", refuse_space)
        check_full(client.put("/collections/photos", json={}))
        assert client.get("/collections").json()["data"] == []
    assert client.put("/collections/photos", json={}).status_code == 201


FILL = """
import sys
from pathlib import Path
from starlette.testclient import TestClient
sys.path.insert(0, sys.argv[2])
from tests.serving.conftest import FakeEncoder
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

data = Path(sys.argv[1])
reserve = data / "reserve"
reserve.write_bytes(bytes(800_000))
service = Service(ServerSettings(data=data), lambda source, precision: FakeEncoder())
service.load("colours", "colours")
store = CollectionStore(data / "collections")
items = lambda n: {"items": [{"id": f"{n}-{i}", "vector": [1.0] * 16, "metadata": {"x": "y" * 900}}
                             for i in range(100)]}
with TestClient(add_middleware(build_app(service, build_routers(service, store)))) as client:
    assert client.put("/collections/photos", json={}).status_code == 201
    told = []
    filler = data / "filler"
    for n in range(100):
        told.append(client.post("/collections/photos/items", json=items(n)))
        if told[-1].status_code != 200:
            break
    assert [a.status_code for a in told[:-1]] == [200] * (len(told) - 1), told[-2].text
    assert told[-1].status_code == 507, told[-1].text
    try:
        with filler.open("wb") as file:  # to the last byte
            while True:
                file.write(bytes(4096)); file.flush()
    except OSError:
        pass
    for method, path, body in (
        ("POST", "/collections/photos/items", items("more")),
        ("POST", "/collections/photos/build", {}),
        ("PUT", "/collections/other", {}),
        ("PUT", "/classifiers/pets", {"classes": ["red"]}),
    ):
        answer = client.request(method, path, json=body)
        assert answer.status_code == 507, (path, answer.status_code, answer.text)
    kept = client.get("/collections/photos").json()["count"]
    assert kept == 100 * (len(told) - 1), kept
    assert client.post("/search", json={"vector": [1.0] * 16}).status_code == 200
    reserve.unlink()
    few = {"items": items("after")["items"][:3]}
    assert client.post("/collections/photos/items", json=few).status_code == 200
    assert client.put("/classifiers/pets", json={"classes": ["red"]}).status_code == 201
    assert client.put("/collections/other", json={}).status_code == 201
    assert client.get("/collections/photos").json()["count"] == kept + 3
store.close()
print("went on")
"""


def may_mount() -> bool:
    try:
        tried = subprocess.run(["unshare", "-rm", "true"], capture_output=True, timeout=10)
    except OSError:
        return False
    return tried.returncode == 0


@pytest.mark.skipif(not may_mount(), reason="this system lets nobody mount a small disk")
def test_a_disk_that_fills_up_is_a_507_until_there_is_room(tmp_path: Path) -> None:
    script = tmp_path / "fill.py"
    script.write_text(FILL)
    disk = tmp_path / "disk"
    disk.mkdir()
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [
            *("unshare", "-rm", "sh", "-c"),
            'mount -t tmpfs -o size=3m tmpfs "$1" && exec "$2" "$3" "$1" "$4"',
            *("sh", str(disk), sys.executable, str(script), str(root)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.stdout.strip() == "went on", told.stdout + told.stderr


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    monkeypatch.setattr("twinlens.serving.files.os.fsync", refuse_space)
    with pytest.raises(Exception, match="disk is full"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_data_folder_has_one_owner_whom_the_error_names(tmp_path: Path) -> None:
    with own_folder(tmp_path / "data"):
        message = rf"--data .*data is in use by process {os.getpid()} on "
        with pytest.raises(LockedError, match=message), own_folder(tmp_path / "data"):
            pass
        with own_folder(None), own_folder(tmp_path / "other"):
            pass
    with own_folder(tmp_path / "data"):
        pass
