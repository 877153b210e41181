"""A hub on loopback and a cache of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundle.pull.hub import ModelHub, serve_hub
from twinlens.bundle.pull.hub import HubAccess
from twinlens.bundle.pull.hub_download import HubCache


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ModelHub]:
    with serve_hub(tmp_path / "repositories") as served:
        yield served


@pytest.fixture
def access(hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubAccess:
    """The hub of this test, with an empty cache and no token of this machine."""
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return HubAccess(HubCache(hub.url, tmp_path / "hub_cache"), is_offline=False)
