"""The builtin's domain sign on real pictures: quiet on its own kinds, loud on photographs.

Each set is read as a user's files are: by the encoder's own decoding.
"""

from __future__ import annotations

import functools
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from twinlens.bundle.arrays import Rows
from twinlens.bundle.domain.domain_sign import DomainSign, read_sign
from twinlens.bundle.domain.learning import count_alarms
from twinlens.bundle.encoder import Encoder, open_bundle

DATA = os.environ.get("TWINLENS_DATA")
needs_data = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA, reason="TWINLENS_DATA is not set: no real data to read"),
]
PHOTOGRAPHS = ("coco_mini/test", "imagenet1k_1perclass/all", "cifar10_jpeg/test")
DOMAIN = {"emoji": "emoji64/test", "icons": "icons64/test", "clothes": "clothing96/test"}
MOST = 1000
SHARE_ALIKE = ("openmoji_color", "openmoji_black")


@functools.cache
def encoder() -> Encoder:
    return open_bundle("builtin")


def sign() -> DomainSign:
    found = read_sign(encoder().manifest)
    assert found is not None
    return found


@functools.cache
def embed(archive: str, held_out: bool = False) -> Rows:
    """Return the embeddings of a set; of its held-out half alone, as the recipe draws it."""
    path = Path(DATA or "") / f"{archive}.zip"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    with zipfile.ZipFile(path) as opened:
        rows = [json.loads(line) for line in opened.read("index.jsonl").decode().splitlines()]
        if held_out:
            kept = [
                r
                for r in rows
                if r.get("style") not in SHARE_ALIKE and r.get("cls", "") is not None
            ]
            rows = [kept[i] for i in np.random.default_rng(0).permutation(len(kept))[1::2]]
        elif len(rows) > MOST:
            rows = [rows[i] for i in np.random.default_rng(0).choice(len(rows), MOST, False)]
        return encoder().embed_images([opened.read(row["file"]) for row in rows])


def test_it_is_small_and_its_own_measurement_keeps_the_promise() -> None:
    stored = encoder().manifest.extensions["domain"]
    assert len(json.dumps(stored)) < 4000
    assert (
        max(share for shares in stored["false_alarms"].values() for share in shares.values())
        <= 0.02
    )


class TestRealPictures:
    pytestmark = needs_data

    @pytest.mark.parametrize("group", DOMAIN)
    def test_at_most_two_in_a_hundred_samples_of_its_own_kinds_are_called_far(
        self, group: str
    ) -> None:
        alarms = count_alarms(sign(), embed(DOMAIN[group], held_out=True))
        assert max(alarms.values()) <= 0.02, alarms

    @pytest.mark.parametrize("archive", PHOTOGRAPHS)
    def test_nine_in_ten_samples_of_four_photographs_are_called_far(self, archive: str) -> None:
        caught = count_alarms(sign(), embed(archive))
        assert caught["4"] >= 0.9, caught
        assert caught["8"] >= 0.99, caught

    @pytest.mark.parametrize("archive", PHOTOGRAPHS)
    def test_a_single_photograph_is_caught_far_more_often_than_a_drawing(
        self, archive: str
    ) -> None:
        caught = count_alarms(sign(), embed(archive))["1"]
        own = count_alarms(sign(), embed(DOMAIN["emoji"], held_out=True))["1"]
        assert caught > 10 * own
