"""Pulled bundles are found again by what was asked for, and by nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bundle.pull.hub import COMMIT, ModelHub
from tests.bundle.pull.tiny_model import make_files, write_folder
from twinlens.bundle.pull.bundle_cache import BundleCache, PullRequest
from twinlens.bundle.pull.hub import HubAccess
from twinlens.bundle.pull.options import PullOptions
from twinlens.bundle.pull.source import HubName, Source
from twinlens.bundle.store import verify_bundle
from twinlens.errors import BundleError

NAME = "tiny/clip"
REQUEST = PullRequest(Source((HubName(NAME),)))


@pytest.fixture
def cache(
    hub: ModelHub, access: HubAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> BundleCache:
    monkeypatch.setenv("HF_ENDPOINT", access.endpoint)
    monkeypatch.setenv("HF_HUB_CACHE", str(access.cache.folder))
    hub.add(NAME, make_files())
    return BundleCache(tmp_path / "models")


def test_what_was_pulled_is_found_by_its_source_and_by_its_commit(
    hub: ModelHub, cache: BundleCache
) -> None:
    assert cache.find(REQUEST) is None
    bundle = cache.open(REQUEST)
    count = len(hub.asked)
    assert cache.open(REQUEST) == cache.find(REQUEST) == bundle
    pinned = replace(REQUEST, source=Source((HubName(NAME, COMMIT),)))
    assert cache.open(pinned) == bundle
    assert len(hub.asked) == count


def test_other_options_are_another_bundle(cache: BundleCache) -> None:
    cache.open(REQUEST)
    assert cache.find(replace(REQUEST, options=PullOptions(pooling="cls"))) is None
    assert cache.find(replace(REQUEST, options=PullOptions(precisions=("fp32", "int8")))) is None


def test_a_bundle_without_a_manifest_is_pulled_again(cache: BundleCache) -> None:
    bundle = cache.open(REQUEST)
    (bundle / "bundle.json").unlink()
    assert cache.find(REQUEST) is None
    assert cache.open(REQUEST) == bundle
    verify_bundle(bundle)


def test_pulling_anew_mends_a_damaged_bundle(cache: BundleCache) -> None:
    bundle = cache.open(REQUEST)
    (bundle / "tokenizer.json").write_text("{}")
    assert cache.pull(REQUEST, anew=True) == bundle
    verify_bundle(bundle)


@pytest.mark.parametrize("content", ["", "[]", '{"bundle": 3}', '{"bundle": "../../etc"}'])
def test_a_record_that_makes_no_sense_is_no_record(
    cache: BundleCache, tmp_path: Path, content: str
) -> None:
    cache.open(REQUEST)
    for record in (tmp_path / "models" / "requests").iterdir():
        assert json.loads(record.read_text())["source"].startswith("hf:tiny/clip")
        record.write_text(content)
    assert cache.find(REQUEST) is None


def test_a_folder_that_changed_is_pulled_again(cache: BundleCache, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", make_files())
    request = PullRequest(Source((folder,)))
    assert cache.open(request) == cache.find(request)
    (folder / "config.json").write_bytes(b"{}")
    assert cache.find(request) is None


def test_a_pull_that_fails_leaves_no_bundle(
    hub: ModelHub, cache: BundleCache, tmp_path: Path
) -> None:
    (hub.root / NAME / "onnx" / "text_model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError):
        cache.open(REQUEST)
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["locks"]


def test_bundles_are_listed_with_their_sources_and_removed(
    hub: ModelHub, cache: BundleCache
) -> None:
    bundle = cache.open(REQUEST)
    hub.add("tiny/other", make_files())
    other = cache.open(PullRequest(Source((HubName("tiny/other"),))))
    listed = {one.folder: one for one in cache.list()}
    assert set(listed) == {bundle, other}
    assert listed[bundle].sources == (f"hf:{NAME}", f"hf:{NAME}@{COMMIT}")
    assert listed[bundle].bytes == sum(p.stat().st_size for p in bundle.rglob("*") if p.is_file())
    cache.remove(listed[bundle])
    assert cache.find(REQUEST) is None
    assert [one.folder for one in cache.list()] == [other]
    assert cache.open(REQUEST) == bundle
    verify_bundle(bundle)


def test_a_removal_that_was_killed_leaves_no_half_bundle(
    cache: BundleCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.open(REQUEST)

    def stop(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("twinlens.bundle.pull.bundle_cache.shutil.rmtree", stop)
        cache.remove(cache.list()[0])
    assert cache.find(REQUEST) is None
    assert [one.sources for one in cache.list()] == [()]
    cache.remove(cache.list()[0])
    assert cache.list() == []


def test_an_empty_cache_lists_nothing(tmp_path: Path) -> None:
    assert BundleCache(tmp_path / "none").list() == []


def test_another_hub_is_another_bundle(cache: BundleCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.open(REQUEST)
    before = REQUEST.digest()
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    assert REQUEST.digest() != before
    assert cache.find(REQUEST) is None
    monkeypatch.delenv("HF_ENDPOINT")
    public = REQUEST.digest()
    monkeypatch.setenv("HF_ENDPOINT", "https://huggingface.co/")
    assert REQUEST.digest() == public
