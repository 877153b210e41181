"""The domain sign as the manifest holds it, and its verdicts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinlens.bundle.domain.domain_sign import DomainSign, read_sign
from twinlens.bundle.manifest import Manifest
from twinlens.bundle.store import read_manifest
from twinlens.errors import BundleError

SIGN = DomainSign(np.eye(16, dtype=np.float32)[0], -0.25, ((1, 0.5), (4, 0.1)), {"a": 9})


def with_sign(toy_bundle: Path, **changes: Any) -> Manifest:
    extension = {**SIGN.to_extension(), **changes}
    return dataclasses.replace(read_manifest(toy_bundle), extensions={"domain": extension})


def rows(*firsts: float) -> Any:
    found = np.zeros((len(firsts), 16), np.float32)
    found[:, 0] = firsts
    return found


def test_it_is_read_as_it_was_written(toy_bundle: Path) -> None:
    found = read_sign(with_sign(toy_bundle))
    assert found is not None
    np.testing.assert_array_equal(found.weights, SIGN.weights)
    assert (found.bias, found.limits) == (SIGN.bias, SIGN.limits)


def test_a_bundle_without_one_has_none(toy_bundle: Path) -> None:
    assert read_sign(read_manifest(toy_bundle)) is None


def test_a_kind_that_comes_later_is_ignored(toy_bundle: Path) -> None:
    assert read_sign(with_sign(toy_bundle, kind="quadratic")) is None


@pytest.mark.parametrize(
    ("values", "far", "limit"),
    [
        ((0.7,), False, 0.5),
        ((0.8,), True, 0.5),
        ((0.4, 0.4, 0.4), False, 0.5),  # three are judged by the limit of one
        ((0.4, 0.4, 0.4, 0.4), True, 0.1),
        ((1.0, 0.0, 0.2, 0.1), False, 0.1),
    ],
)
def test_several_pictures_are_judged_by_their_mean_and_a_lower_limit(
    values: tuple[float, ...], far: bool, limit: float
) -> None:
    verdict = SIGN.judge(rows(*values))
    assert (verdict.far, verdict.pictures, verdict.limit) == (far, len(values), limit)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "?"}, "cannot be read"),
        ({"weights": "AAAA"}, "cannot be read|2 weights"),
        ({"limits": []}, "0 limits"),
        ({"limits": [[2, 0.5]]}, "a limit for 1 picture"),
        ({"bias": "high"}, "cannot be read"),
    ],
)
def test_a_damaged_one_is_told_with_the_command_that_makes_it_anew(
    toy_bundle: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        read_sign(with_sign(toy_bundle, **changes))
