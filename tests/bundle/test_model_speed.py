"""The speed of a model on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twinlens.bundle import model_speed
from twinlens.bundle.encoder import open_bundle
from twinlens.bundle.model_speed import measure_speed, open_offline
from twinlens.errors import BundleError


def test_both_towers_are_measured(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_speed, "SECONDS", 0.05)
    speed = measure_speed(open_bundle(toy_bundle))
    assert speed.images_per_second is not None and speed.images_per_second > 0
    assert speed.texts_per_second is not None and speed.texts_per_second > 0


def test_a_model_that_is_not_here_is_told_and_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path))
    with pytest.raises(BundleError):
        open_offline("hf:nobody/nothing")
    assert "HF_HUB_OFFLINE" not in os.environ
