"""Shards in an object store, against a server that speaks S3."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.data.test_sources import as_tars, contents
from tests.training.family import small_config, with_settings, write_images
from tests.training.loop.test_resume import assert_same_bytes
from twinlens.errors import MissingDependencyError, NotFoundError
from twinlens.training.data.listing import files
from twinlens.training.data.sources import open_source
from twinlens.training.loop.loop import train


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of two shards that also lie in the bucket `photos` of a local S3."""
    server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(port=0)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "out").mkdir()
    as_tars(write_images(tmp_path / "images", 12), tmp_path / "out")
    store = s3fs.S3FileSystem()
    store.mkdir("photos")
    for shard in (tmp_path / "out").glob("*.tar"):
        store.put_file(str(shard), f"photos/train/{shard.name}")
    yield tmp_path
    running.stop()
    files.open_files.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_shards_in_a_store_are_those_on_disk(bucket: Path) -> None:
    here = open_source(bucket / "out")
    for where in ("s3://photos/train/shard-{0..1}.tar", "s3://photos/train/*.tar"):
        assert contents(open_source(where)) == contents(here)
    with pytest.raises(NotFoundError, match=r"1 of its 3 files do not exist.*shard-2.tar"):
        open_source("s3://photos/train/shard-{0..2}.tar")
    config = with_settings(small_config("simclr"), steps=3, memory_gb=0.0, shuffle_block=4)
    train(config, "s3://photos/train/shard-{0..1}.tar", bucket / "far")
    train(config, str(bucket / "out"), bucket / "near")
    assert_same_bytes(bucket / "far", bucket / "near")


def test_a_store_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    files.open_files.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"twinlens\[stores\]"):
        open_source("s3://photos/shard.tar")
    files.open_files.cache_clear()
