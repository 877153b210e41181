"""Models at their full size through the whole path; minutes, so only `make test-all` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

import twinlens
from twinlens.training.export import SourceOptions, export_encoder, load_source

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["open_clip:ViT-B-32", "open_clip:RN50", "timm:convnext_tiny"])
def test_a_model_of_full_size_exports_and_replays(name: str, tmp_path: Path) -> None:
    described = load_source(name, SourceOptions(random_weights=True))
    manifest = export_encoder(described, tmp_path / "bundle", precisions=("int8",))
    encoder = twinlens.open_bundle(tmp_path / "bundle", device="cpu")
    assert encoder.check().image_cosine == pytest.approx(1, abs=1e-6)
    if manifest.text is not None:
        assert manifest.text.cut_to_longest
