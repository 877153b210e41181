"""A domain sign learned from a domain's own pictures: it warns of others and rarely of its own."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bundle.domain.scene import StatisticsEncoder, draw_discs, draw_frames, draw_noise
from twinlens.bundle.domain.domain_sign import DomainSign
from twinlens.bundle.domain.learning import (
    SAMPLE_SIZES,
    count_alarms,
    learn_sign,
    split_pictures,
)
from twinlens.errors import InputError

ENCODER = StatisticsEncoder()
GROUPS = {"discs": draw_discs, "frames": draw_frames}


@pytest.fixture(scope="module")
def sign() -> DomainSign:
    references, limiting, measuring = (
        {name: draw(400, seed) for name, draw in GROUPS.items()} for seed in (1, 2, 3)
    )
    return learn_sign(ENCODER, references, limiting, measuring)


@pytest.mark.parametrize("group", GROUPS)
def test_it_rarely_warns_of_its_own_pictures_also_of_one_group_alone(
    sign: DomainSign, group: str
) -> None:
    alarms = count_alarms(sign, ENCODER.encode_pixels(GROUPS[group](1000, 9)))
    assert max(alarms.values()) < 0.04, alarms  # 1.5 % aimed at, on limits of 400 pictures


def test_it_warns_of_foreign_pictures(sign: DomainSign) -> None:
    caught = count_alarms(sign, ENCODER.encode_pixels(draw_noise(500, 9)))
    assert caught["8"] > 0.95, caught


def test_a_sign_that_was_not_learned_would_not_pass(sign: DomainSign) -> None:
    blind = DomainSign(np.zeros_like(sign.weights), 0.0, sign.limits)
    caught = count_alarms(blind, ENCODER.encode_pixels(draw_noise(500, 9)))
    own = count_alarms(blind, ENCODER.encode_pixels(draw_discs(500, 9)))
    assert caught == own


def test_what_it_measured_is_from_pictures_that_set_no_limit(sign: DomainSign) -> None:
    assert dict(sign.references) == {"discs": 400, "frames": 400}
    assert set(sign.false_alarms) == set(GROUPS)
    expected = count_alarms(sign, ENCODER.encode_pixels(draw_discs(400, 3)))
    assert dict(sign.false_alarms["discs"]) == expected


def test_there_is_a_limit_for_every_sample_size(sign: DomainSign) -> None:
    assert tuple(size for size, _ in sign.limits) == SAMPLE_SIZES


def test_learning_twice_gives_the_same_sign(sign: DomainSign) -> None:
    first, second, third = (
        {name: draw(400, seed) for name, draw in GROUPS.items()} for seed in (1, 2, 3)
    )
    again = learn_sign(ENCODER, first, second, third)
    np.testing.assert_allclose(again.weights, sign.weights, rtol=1e-3, atol=1e-3)


def test_the_three_sets_share_no_picture() -> None:
    pixels = np.arange(401, dtype=np.int32).reshape(-1, 1, 1, 1)
    parts = split_pictures(pixels)  # type: ignore[arg-type]
    seen = np.concatenate([part.ravel() for part in parts])
    assert sorted(seen) == list(range(401))
    assert [len(part) for part in parts] == [200, 100, 101]


def test_too_few_pictures_are_refused_with_the_number_needed() -> None:
    with pytest.raises(InputError, match="50 pictures; a domain sign needs at least 200"):
        split_pictures(draw_discs(50, 1))
