"""The cache folder is where the environment says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from twinlens.cache import find_cache, find_data


def test_a_folder_of_its_own_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "all"))
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "own"))
    assert find_cache() == tmp_path / "own"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG is of other systems")
def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TWINLENS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_cache() == tmp_path / "twinlens"


def test_data_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWINLENS_DATA", str(tmp_path / "own"))
    assert find_data() == tmp_path / "own"
    monkeypatch.delenv("TWINLENS_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert find_data().is_relative_to(tmp_path if sys.platform == "linux" else Path.home())
    assert find_data() != find_cache()
