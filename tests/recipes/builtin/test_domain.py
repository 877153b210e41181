"""The builtin gets its card and its domain sign from the data, and keeps its revision."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from recipes.builtin import domain
from recipes.builtin.corpus import Corpus
from recipes.builtin.towers import IMAGE_SIZE
from twinlens.bundle.domain import learning
from twinlens.bundle.domain.domain_sign import read_sign
from twinlens.bundle.encoder import find_bundle
from twinlens.bundle.model_card import read_card
from twinlens.bundle.store import read_manifest, verify_bundle


@pytest.fixture
def small(corpus: Corpus) -> Corpus:
    """The tiny corpus at the encoder's size."""
    return Corpus(
        *(
            dataclasses.replace(part, pixels=part.pixels[:, :IMAGE_SIZE, :IMAGE_SIZE])
            for part in (corpus.emoji, corpus.icons, corpus.clothes)
        )
    )


def test_the_command_describes_a_bundle_and_changes_nothing_else(
    small: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(domain, "read_corpus", lambda folder, split, side: small)
    monkeypatch.setattr(learning, "_OUTLIERS", 60)
    bundle = Path(shutil.copytree(find_bundle("builtin"), tmp_path / "builtin"))
    before = read_manifest(bundle)
    assert domain.main([str(tmp_path), "--out", str(bundle)]) == 0
    after = verify_bundle(bundle)
    assert after.revision == before.revision
    assert after.files == before.files
    assert read_card(after) == domain.CARD
    sign = read_sign(after)
    assert sign is not None
    assert after.extensions["domain"]["references"] == {"emoji": 36, "icons": 20, "clothes": 8}
    assert set(json.loads(capsys.readouterr().out)) == {"emoji", "icons", "clothes"}


def test_data_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert domain.main([str(tmp_path)]) == 2
    assert "emoji64/train.zip does not exist" in capsys.readouterr().err


def test_the_halves_share_no_picture_and_are_the_same_at_every_call() -> None:
    pixels = np.arange(101, dtype=np.uint8).reshape(-1, 1, 1, 1)
    one, other = domain.halve(pixels)
    assert sorted([*one.ravel(), *other.ravel()]) == list(range(101))
    np.testing.assert_array_equal(domain.halve(pixels)[1], other)


def test_the_card_that_ships_is_the_one_written_here() -> None:
    assert read_card(read_manifest(find_bundle("builtin"))) == domain.CARD
