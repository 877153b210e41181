"""A hub's repository is listed in one call, fetched in part, checked, and kept for later."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.pull.hub import COMMIT, ModelHub
from twinlens.bundle.pull.hub import HubAccess, HubRepository, read_access
from twinlens.bundle.pull.source import HubName
from twinlens.errors import NotFoundError, PullError

NAME = "owner/model"
SMALL = b'{"model_type": "clip"}'
LARGE = bytes(range(256)) * 8192  # 2 MiB
FILES = {"config.json": SMALL, "onnx/model.onnx": LARGE, "onnx/model_fp16.onnx": LARGE[1:]}
STORED = f"{NAME}/onnx/model.onnx"


@pytest.fixture
def repository(hub: ModelHub, access: HubAccess) -> HubRepository:
    hub.add(NAME, FILES)
    return HubRepository(HubName(NAME), access=access)


def test_one_call_lists_every_file_and_what_the_provenance_needs(
    hub: ModelHub, repository: HubRepository
) -> None:
    assert repository.files == {path: len(content) for path, content in FILES.items()}
    assert (repository.source, repository.revision) == (f"hf:{NAME}", COMMIT)
    assert (repository.licence, repository.card) == ("mit", f"{hub.url}/{NAME}")
    assert len(hub.asked) == 1


def test_only_what_is_asked_for_travels(hub: ModelHub, repository: HubRepository) -> None:
    folder = repository.fetch(["config.json", "onnx/model.onnx"])
    assert (folder / "config.json").read_bytes() == SMALL
    assert (folder / "onnx" / "model.onnx").read_bytes() == LARGE
    assert hub.fetched() == ["config.json", "onnx/model.onnx"]


def test_what_was_fetched_before_travels_no_more(
    hub: ModelHub, repository: HubRepository, access: HubAccess
) -> None:
    repository.fetch(FILES)
    count = len(hub.asked)
    HubRepository(HubName(NAME), access=access).fetch(FILES)
    assert len(hub.asked) == count + 1  # the listing


def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    hub: ModelHub, repository: HubRepository
) -> None:
    hub.faults.cut[STORED] = [1_000_000]
    folder = repository.fetch(["onnx/model.onnx"])
    assert (folder / "onnx" / "model.onnx").read_bytes() == LARGE
    assert [a.range for a in hub.asked if a.path.startswith("/store")] == ["", "bytes=1000000-"]


def test_the_part_of_an_earlier_process_is_taken_up(
    hub: ModelHub, repository: HubRepository, access: HubAccess
) -> None:
    """As a process that was killed leaves it."""
    repository.fetch(["onnx/model.onnx"])
    blob = (repository.fetch(["onnx/model.onnx"]) / "onnx" / "model.onnx").resolve()
    (access.cache.repository_folder(NAME) / "snapshots" / COMMIT / "onnx" / "model.onnx").unlink()
    blob.rename(blob.with_name(f"{blob.name}.incomplete"))
    with blob.with_name(f"{blob.name}.incomplete").open("r+b") as partial:
        partial.truncate(1_500_000)
    hub.asked.clear()
    folder = repository.fetch(["onnx/model.onnx"])
    assert (folder / "onnx" / "model.onnx").read_bytes() == LARGE
    assert [a.range for a in hub.asked if a.path.startswith("/store")] == ["bytes=1500000-"]


def test_a_damaged_part_of_an_earlier_process_is_found_out_and_dropped(
    hub: ModelHub, repository: HubRepository, access: HubAccess
) -> None:
    blobs = access.cache.repository_folder(NAME) / "blobs"
    blobs.mkdir(parents=True)
    repository.fetch(["config.json"])
    partial = blobs / f"{hashlib.sha256(LARGE).hexdigest()}.incomplete"
    partial.write_bytes(b"other bytes")
    with pytest.raises(PullError, match=r"SHA-256 .* damaged in transit .* run this again"):
        repository.fetch(["onnx/model.onnx"])
    assert not partial.exists()
    assert (repository.fetch(["onnx/model.onnx"]) / "onnx" / "model.onnx").read_bytes() == LARGE


def test_a_store_that_knows_no_ranges_sends_the_whole_again(
    hub: ModelHub, repository: HubRepository
) -> None:
    hub.faults.cut[STORED] = [1_000_000]
    hub.faults.rangeless = True
    assert (repository.fetch(["onnx/model.onnx"]) / "onnx" / "model.onnx").read_bytes() == LARGE


@pytest.mark.parametrize("tag", ["../../../outside", "..", ""])
def test_a_tag_that_would_name_another_folder_is_refused(
    hub: ModelHub, repository: HubRepository, tmp_path: Path, tag: str
) -> None:
    hub.faults.tag = tag
    with pytest.raises(PullError, match=r"has the tag '.*', which names no file"):
        repository.fetch(["onnx/model.onnx"])
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("commit", ["", "../..", "main"])
def test_a_commit_that_would_name_another_folder_is_refused(
    hub: ModelHub, access: HubAccess, commit: str
) -> None:
    hub.add(NAME, FILES)
    hub.faults.commit = commit
    with pytest.raises(PullError, match="must be the address of a model hub"):
        HubRepository(HubName(NAME), access=access)


@pytest.mark.parametrize("path", ["config.json", "onnx/model.onnx"])
def test_content_with_another_hash_is_refused_and_not_kept(
    hub: ModelHub, repository: HubRepository, access: HubAccess, path: str
) -> None:
    content = FILES[path]
    hub.faults.replaced[f"{NAME}/{path}"] = content[:-1] + b"?"
    with pytest.raises(PullError, match=rf"'{path}' of hf:{NAME} does not have .* run this again"):
        repository.fetch([path])
    hub.faults.replaced.clear()
    assert (repository.fetch([path]) / path).read_bytes() == content


def test_content_that_is_too_short_is_refused_and_not_kept(
    hub: ModelHub, repository: HubRepository
) -> None:
    hub.faults.replaced[STORED] = LARGE[:-7]
    with pytest.raises(PullError, match=r"bytes"):
        repository.fetch(["onnx/model.onnx"])
    hub.faults.replaced.clear()
    assert (repository.fetch(["onnx/model.onnx"]) / "onnx" / "model.onnx").read_bytes() == LARGE


def test_a_token_goes_to_the_hub_and_not_to_where_it_stores_files(
    hub: ModelHub, access: HubAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.add(NAME, FILES)
    hub.faults.private[NAME] = "hf_secret"
    HubRepository(HubName(NAME), access=access).fetch(FILES)
    assert {a.token for a in hub.asked if not a.path.startswith("/store")} == {"hf_secret"}
    assert {a.token for a in hub.asked if a.path.startswith("/store")} == {""}


@pytest.mark.parametrize(
    ("status", "token", "said"),
    [
        (401, "", r"gated \(401\); accept the terms at http://\S+/owner/model, then set HF_TOKEN"),
        (403, "hf_secret", r"gated \(403\); this HF_TOKEN has no access: accept the terms at"),
    ],
)
def test_a_gated_repository_says_where_its_terms_are(
    hub: ModelHub,
    repository: HubRepository,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    token: str,
    said: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    hub.faults.gated[NAME] = status
    for path in FILES:
        with pytest.raises(PullError, match=said) as caught:
            repository.fetch([path])
        assert caught.value.code == "gated"
        assert "hf_secret" not in caught.value.message


@pytest.mark.parametrize("token", ["", "hf_secret"])
def test_a_repository_that_is_missing_or_private_is_named(
    access: HubAccess, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(NotFoundError, match=r"hf:owner/none does not exist on http.*HF_TOKEN"):
        HubRepository(HubName("owner/none"), access=access)


def test_a_revision_that_is_missing_is_named(hub: ModelHub, access: HubAccess) -> None:
    hub.add(NAME, FILES)
    with pytest.raises(NotFoundError, match=r"revision 'v9' of hf:owner/model does not exist"):
        HubRepository(HubName(NAME, "v9"), access=access)


def test_a_file_that_is_not_listed_is_named(repository: HubRepository) -> None:
    with pytest.raises(NotFoundError, match=r"hf:owner/model holds no 'onnx/none\.onnx'"):
        repository.fetch(["onnx/none.onnx"])


def test_a_file_that_vanished_after_the_listing_is_named(
    hub: ModelHub, repository: HubRepository
) -> None:
    for path in FILES:
        (hub.root / NAME / path).unlink()
        with pytest.raises(NotFoundError, match=rf"'{path}' of hf:owner/model does not exist on"):
            repository.fetch([path])


def test_a_listing_with_a_file_outside_of_the_folder_is_refused(
    hub: ModelHub, access: HubAccess
) -> None:
    hub.add(NAME, FILES)
    hub.faults.listed[NAME] = ["../../.bashrc"]
    with pytest.raises(PullError, match=r"lists the file '\.\./\.\./\.bashrc', which is outside"):
        HubRepository(HubName(NAME), access=access)


def test_a_hub_that_is_gone_is_named(hub: ModelHub, access: HubAccess) -> None:
    hub.close()
    with pytest.raises(PullError, match=rf"{hub.url} could not be reached for hf:owner/model"):
        HubRepository(HubName(NAME), access=access)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_out_of_order_is_named(hub: ModelHub, access: HubAccess, status: int) -> None:
    hub.faults.status = status
    with pytest.raises(PullError, match=str(status)):
        HubRepository(HubName(NAME), access=access)


@pytest.mark.parametrize("is_offline", [True, False])
def test_without_the_hub_the_cached_files_are_what_there_is(
    hub: ModelHub, repository: HubRepository, access: HubAccess, is_offline: bool
) -> None:
    repository.fetch(["config.json", "onnx/model.onnx"])
    hub.close()
    told: list[str] = []
    again = HubRepository(
        HubName(NAME), access=replace(access, is_offline=is_offline), tell=told.append
    )
    assert again.files == {"config.json": len(SMALL), "onnx/model.onnx": len(LARGE)}
    assert again.revision == COMMIT
    assert (again.fetch(["onnx/model.onnx"]) / "onnx" / "model.onnx").read_bytes() == LARGE
    assert "using the 2 files of hf:owner/model in the cache" in told[0]
    with pytest.raises(
        NotFoundError, match=r"cached copy of hf:owner/model holds no 'onnx/model_f"
    ):
        again.fetch(["onnx/model_fp16.onnx"])


def test_offline_and_never_fetched_is_said(hub: ModelHub, access: HubAccess) -> None:
    with pytest.raises(PullError, match=r"not in the cache, and HF_HUB_OFFLINE is set"):
        HubRepository(HubName(NAME), access=replace(access, is_offline=True))
    assert hub.asked == []


@pytest.mark.parametrize("path", ["config.json", "onnx/model.onnx"])
def test_a_disk_that_fills_up_is_said(
    repository: HubRepository, access: HubAccess, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The kernel's own error: what is written there goes to /dev/full."""
    if path == "onnx/model.onnx":
        blobs = access.cache.repository_folder(NAME) / "blobs"
        blobs.mkdir(parents=True)
        (blobs / f"{hashlib.sha256(LARGE).hexdigest()}.incomplete").symlink_to("/dev/full")
    else:
        real = Path.open

        def open_full(path: Path, *rest: Any, **named: Any) -> object:
            return real(Path("/dev/full") if path.suffix == ".incomplete" else path, *rest, **named)

        monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(PullError, match=r"no space left on the disk .* HF_HOME") as caught:
        repository.fetch([path])
    assert caught.value.code == "disk_full"


def test_the_environment_is_read_when_it_is_asked() -> None:
    said = {"HF_ENDPOINT": "https://mirror.example/", "HF_HOME": "/h", "HF_HUB_OFFLINE": "1"}
    access = read_access(said)
    assert (access.endpoint, access.is_offline) == ("https://mirror.example", True)
    assert access.cache.folder == Path("/h/hub")
    assert read_access({"HF_HUB_CACHE": "/c"}).cache.folder == Path("/c")
    assert read_access({"XDG_CACHE_HOME": "/x"}).cache.folder == Path("/x/huggingface/hub")
    assert read_access({}).endpoint == "https://huggingface.co"
    assert not read_access({"HF_HUB_OFFLINE": "0"}).is_offline
