"""How scores follow from cosines: measured from a joint graph's logits, or the family's default.

What must stay true: the manifest says which of the two it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from twinlens.bundle.arrays import Rows

_LOGITS: Final = "logits_per_image"
_IMAGES: Final = "image_embeds"
_TEXTS: Final = "text_embeds"
_LEAST_BIAS: Final = 0.01


@dataclass(frozen=True)
class Scores:
    """softmax(scale * cosine) or sigmoid(scale * cosine + bias), and the numbers' origin."""

    kind: Literal["softmax", "sigmoid"]
    scale: float
    bias: float
    origin: str


_SIGLIP: Final = Scores("sigmoid", 117.33, -12.93, "the default of the SigLIP family")
_CLIP: Final = Scores("softmax", 100.0, 0.0, "the default of the CLIP family")
_SINGLE: Final = Scores("softmax", 1 / 0.07, 0.0, "the default of a tower alone")


def find_default(config: Mapping[str, Any], *, joint: bool) -> Scores:
    """Return the family's usual numbers after training."""
    if str(config.get("model_type", "")).startswith("siglip") or "init_logit_bias" in config:
        return _SIGLIP
    return _CLIP if joint else _SINGLE


def read_stated(config: Mapping[str, Any]) -> Scores | None:
    """Return the scale and bias that a configuration states, if it does."""
    scale, bias = config.get("logit_scale"), config.get("logit_bias")
    if not isinstance(scale, (int, float)):
        return None
    kind: Literal["softmax", "sigmoid"] = "softmax" if bias is None else "sigmoid"
    return Scores(kind, float(scale), float(bias or 0.0), "the configuration")


def measure_scores(logits: Rows, images: Rows, texts: Rows) -> Scores:
    """Return scale and bias of the line through the logits over the cosines of unit rows (n, d)."""
    cosines = (images.astype(np.float64) * texts).sum(axis=1)
    found = logits.astype(np.float64).ravel()
    points = np.stack([cosines, np.ones(cosines.size)], axis=1)
    (scale, bias), *_ = np.linalg.lstsq(points, found, rcond=None)
    origin = "measured from logits_per_image"
    if abs(bias) < _LEAST_BIAS * max(1.0, abs(scale)):
        scale = float(cosines @ found / (cosines @ cosines))
        return Scores("softmax", round(scale, 4), 0.0, origin)
    return Scores("sigmoid", round(float(scale), 4), round(float(bias), 4), origin)


def names_logits(outputs: list[str]) -> bool:
    """Whether a joint graph has the outputs that the measurement reads."""
    return {_LOGITS, _IMAGES, _TEXTS} <= set(outputs)


def run_joint(session: Any, feeds: dict[str, Any]) -> tuple[Rows, Rows, Rows]:
    """Return logits, image rows and text rows of a joint graph; rows of unit length."""
    logits, images, texts = session.run([_LOGITS, _IMAGES, _TEXTS], feeds)
    lengths = (np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts))
    first, second = lengths
    return logits, images / first, texts / second
