"""The line through a joint graph's logits is the model's; defaults are the family's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from twinlens.bundle.pull.fitting.scores import find_default, measure_scores, read_stated

RNG = np.random.default_rng(4)
PAIRS = RNG.standard_normal((2, 12, 16))
ROWS, COLUMNS = (p / np.linalg.norm(p, axis=1, keepdims=True) for p in PAIRS)
COSINES = (ROWS * COLUMNS).sum(1)


def measure(scale: float, bias: float) -> tuple[str, Any, Any]:
    logits = (scale * COSINES + bias).astype(np.float32)
    found = measure_scores(logits, ROWS.astype(np.float32), COLUMNS.astype(np.float32))
    assert found.origin == "measured from logits_per_image"
    return found.kind, found.scale, found.bias


def test_without_a_bias_it_is_a_softmax() -> None:
    assert measure(100.0, 0.0) == ("softmax", pytest.approx(100, rel=1e-4), 0.0)


def test_with_a_bias_it_is_a_sigmoid() -> None:
    expected = ("sigmoid", pytest.approx(117.33, rel=1e-4), pytest.approx(-12.93, rel=1e-3))
    assert measure(117.33, -12.93) == expected


@pytest.mark.parametrize(
    ("config", "joint", "kind"),
    [
        ({"model_type": "siglip"}, True, "sigmoid"),
        ({"init_logit_bias": -10}, True, "sigmoid"),
        ({"model_type": "clip"}, True, "softmax"),
        ({"model_type": "dinov2"}, False, "softmax"),
    ],
)
def test_a_default_is_the_familys(config: dict[str, object], joint: bool, kind: str) -> None:
    found = find_default(config, joint=joint)
    assert found.kind == kind
    assert found.origin.startswith("the default of")


def test_a_configuration_that_says_its_scale_is_believed() -> None:
    assert read_stated({}) is None
    stated = read_stated({"logit_scale": 50, "logit_bias": -3})
    assert stated is not None
    assert (stated.kind, stated.scale, stated.bias) == ("sigmoid", 50.0, -3.0)
