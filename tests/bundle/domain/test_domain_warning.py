"""The warning says what the model is for and which command mends it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.bundle.domain.test_domain_sign import rows, with_sign
from twinlens.bundle.domain.domain_warning import suggest_build, warn_far
from twinlens.bundle.store import read_manifest


def test_familiar_pictures_and_no_pictures_raise_none(toy_bundle: Path) -> None:
    manifest = with_sign(toy_bundle)
    assert warn_far(manifest, rows(0.1, 0.2)) is None
    assert warn_far(manifest, rows()) is None


def test_far_ones_are_told_with_what_the_model_knows_and_a_remedy(toy_bundle: Path) -> None:
    manifest = with_sign(toy_bundle)
    card = {"domain": "squares"}
    manifest = dataclasses.replace(manifest, extensions={**manifest.extensions, "card": card})
    warning = warn_far(manifest, rows(0.9, 0.9))
    assert warning is not None
    assert "these 2 pictures look unlike what model 'toy' knows (squares)" in warning
    assert "`twinlens models`" in warning
    assert "this picture looks" in (warn_far(manifest, rows(0.9)) or "")


def test_a_bundle_without_a_sign_is_never_warned_about(toy_bundle: Path) -> None:
    assert warn_far(read_manifest(toy_bundle), rows(1.0) * 100) is None


def test_the_suggested_command_indexes_beside_the_old_collection() -> None:
    text = suggest_build("photos", Path("photos.index"))
    assert text.startswith("twinlens index build photos -o photos.index-clip --bundle hf:")
