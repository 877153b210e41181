"""`twinlens cache`: pulled bundles are listed, removed one by one, and all at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bundle.pull.tiny_model import make_files, write_folder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pulled(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two bundles of folders in a cache of their own; their sources are returned."""
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "cache"))
    sources = []
    for name in ("one", "two"):
        write_folder(tmp_path / name, make_files())
        code, _, err = cli("pull", tmp_path / name)
        assert code == 0, err
        sources.append(str(tmp_path / name))
    return sources


def listed(cli: Run) -> list[str]:
    code, out, err = cli("cache", "list", "--json")
    assert code == 0, err
    return [source for one in json.loads(out) for source in one["sources"]]


def test_bundles_are_listed_and_removed(cli: Run, pulled: list[str]) -> None:
    assert listed(cli) == pulled
    code, out, err = cli("cache", "list")
    assert (code, "2 bundles" in err, pulled[0] in out, " MB  " in out) == (0, True, True, True)
    code, out, _ = cli("cache", "remove", pulled[0], "--json")
    assert (code, json.loads(out)["removed"][0]["sources"]) == (0, [pulled[0]])
    assert listed(cli) == [pulled[1]]
    code, _, err = cli("cache", "remove", pulled[0])
    assert (code, "is not in the cache" in err, pulled[1] in err) == (2, True, True)
    code, _, err = cli("cache", "clear")
    assert (code, "1 bundles removed" in err) == (0, True)
    assert listed(cli) == []
