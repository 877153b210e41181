"""Corpora and exports on object storage: fsspec's memory by default, a real S3 server if asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.index.ingest.test_builder import DIM, PixelEncoder, paint
from tests.index.ingest.test_ray_engine import read_items
from twinlens.errors import InputError
from twinlens.index.collection import Collection
from twinlens.index.ingest.builder import BuildOptions, build
from twinlens.index.ingest.corpus import open_corpus
from twinlens.index.ingest.import_export import export_to, import_from
from twinlens.index.ingest.intake import IndexingProgress
from twinlens.index.ingest.ray_engine import RayEngine
from twinlens.index.ingest.remote_files import read_url
from twinlens.index.writer import Writer, create_collection

fsspec = pytest.importorskip("fsspec", reason="pip install 'twinlens[remote]'")


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.scale)])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty place."""
    if request.param == "memory":
        fsspec.filesystem("memory").rm("/photos", recursive=True) if fsspec.filesystem(
            "memory"
        ).exists("/photos") else None
        yield "memory://photos"
        return
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.filesystem("s3").clear_instance_cache()
    name = f"photos-{port}"  # the server's buckets outlive it
    fsspec.filesystem("s3").mkdir(name)
    yield f"s3://{name}"
    fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


def put(url: str, path: Path) -> None:
    with fsspec.open(f"{url}/{path.name}", "wb") as target:
        target.write(path.read_bytes())


def run(folder: Path, url: str, embed: Any = None) -> IndexingProgress:
    if not folder.exists():
        create_collection(folder, dim=DIM)
    with Writer(folder) as writer:
        return build(writer, open_corpus(url), PixelEncoder(), BuildOptions(batch=4), embed=embed)


def test_a_corpus_on_object_storage_is_indexed_and_only_changes_are_fetched_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "images", [f"{n}.png" for n in range(9)])
    (tmp_path / "images" / "9.png").write_bytes(b"nothing")
    for path in sorted((tmp_path / "images").iterdir()):
        put(f"{bucket}/in", path)
    first = run(tmp_path / "c", f"{bucket}/in")
    assert (first.total, first.embedded, first.failed) == (10, 9, 1)
    assert read_items(tmp_path / "c")["3.png"][1] == {"path": f"{bucket}/in/3.png"}
    fetched: list[str] = []

    def fetch(url: str) -> bytes:
        fetched.append(url)
        return read_url(url)

    monkeypatch.setattr("twinlens.index.ingest.corpus.read_url", fetch)
    again = run(tmp_path / "c", f"{bucket}/in")
    assert (again.embedded, again.unchanged, again.failed) == (0, 9, 1)
    assert fetched == [f"{bucket}/in/9.png"]
    paint(tmp_path / "images", ["3.png"], seed=5)
    put(f"{bucket}/in", tmp_path / "images" / "3.png")
    fsspec.filesystem(bucket.partition(":")[0]).rm(f"{bucket.partition('://')[2]}/in/4.png")
    changed = run(tmp_path / "c", f"{bucket}/in")
    assert (changed.embedded, changed.removed) == (1, 1)


def test_an_export_goes_to_object_storage_and_comes_back(bucket: str, tmp_path: Path) -> None:
    paint(tmp_path / "images", [f"{n}.png" for n in range(9)])
    run(tmp_path / "c", str(tmp_path / "images"))
    with Collection(tmp_path / "c") as collection:
        assert export_to(collection, f"{bucket}/out", 4) == 9
        with pytest.raises(InputError, match="not empty"):
            export_to(collection, f"{bucket}/out", 4)
    create_collection(tmp_path / "back", dim=DIM)
    with Writer(tmp_path / "back") as writer:
        assert import_from(writer, f"{bucket}/out") == 9
    assert set(read_items(tmp_path / "back")) == {f"{n}.png" for n in range(9)}


def test_a_place_without_images_is_told(bucket: str) -> None:
    with pytest.raises(InputError, match="holds no image"):
        open_corpus(f"{bucket}/nothing")


@pytest.mark.scale
def test_workers_read_object_storage_themselves(bucket: str, tmp_path: Path) -> None:
    if not bucket.startswith("s3"):
        pytest.skip("a memory is not shared by processes")
    paint(tmp_path / "images", [f"{n}.png" for n in range(40)])
    for path in sorted((tmp_path / "images").iterdir()):
        put(f"{bucket}/in", path)
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[3])
    from tests.index.ingest.test_ray_engine import open_pixels

    assert run(tmp_path / "ray", f"{bucket}/in", RayEngine(open_pixels)).embedded == 40
    assert run(tmp_path / "local", f"{bucket}/in").embedded == 40
    assert read_items(tmp_path / "ray") == read_items(tmp_path / "local")
