"""The domain sign: a linear score of embeddings, with a limit for each number of pictures.

Positive scores point away from the domain. One picture shows little, the mean of several much, so
the limit falls with their number. What must stay true: a limit is the highest over the groups of
the domain, so that a collection of a single group (only icons, only clothes) raises no alarm.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinlens.bundle.arrays import Row, Rows
from twinlens.bundle.manifest import Manifest
from twinlens.errors import BundleError

EXTENSION = "domain"
LINEAR = "linear"


@dataclass(frozen=True)
class DomainVerdict:
    """Whether pictures are far from the domain: their mean score against the limit."""

    far: bool
    pictures: int
    score: float
    limit: float


@dataclass(frozen=True)
class DomainSign:
    """Score = embedding @ weights + bias; `limits` holds (pictures, score), fewest first.

    `false_alarms` was measured on held-out pictures: group -> pictures -> share.
    """

    weights: Row
    bias: float
    limits: tuple[tuple[int, float], ...]
    references: Mapping[str, int] = field(default_factory=dict)
    false_alarms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def most(self) -> int:
        """The number of pictures beyond which a larger sample does not help."""
        return self.limits[-1][0]

    def score(self, rows: Rows) -> Row:
        """Return the score of each embedding (n, d)."""
        scores: Row = rows @ self.weights + np.float32(self.bias)
        return scores

    def judge(self, rows: Rows) -> DomainVerdict:
        """Return the verdict on the pictures of these embeddings (n, d), n at least 1."""
        limit = [score for pictures, score in self.limits if pictures <= len(rows)][-1]
        mean = float(self.score(rows).mean())
        return DomainVerdict(mean > limit, len(rows), mean, limit)

    def to_extension(self) -> dict[str, Any]:
        """Return the sign in the manifest's form."""
        return {
            "kind": LINEAR,
            "weights": base64.b64encode(self.weights.astype("<f2").tobytes()).decode(),
            "bias": round(self.bias, 4),
            "limits": [[pictures, round(score, 4)] for pictures, score in self.limits],
            "references": dict(self.references),
            "false_alarms": {name: dict(shares) for name, shares in self.false_alarms.items()},
        }


def read_sign(manifest: Manifest) -> DomainSign | None:
    """Return the bundle's domain sign; None if it has none, or one of an unknown kind."""
    raw = manifest.extensions.get(EXTENSION)
    if raw is None or raw.get("kind") != LINEAR:
        return None
    try:
        weights = np.frombuffer(base64.b64decode(raw["weights"], validate=True), "<f2")
        limits = tuple((int(pictures), float(score)) for pictures, score in raw["limits"])
        sign = DomainSign(weights.astype(np.float32), float(raw["bias"]), limits)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"bundle.json: extensions.{EXTENSION} cannot be read ({error}); learn it again with"
            " twinlens card BUNDLE --domain FOLDER"
        ) from None
    if len(weights) != manifest.embedding_dim or not limits or limits[0][0] != 1:
        raise BundleError(
            f"bundle.json: extensions.{EXTENSION} has {len(weights)} weights and {len(limits)}"
            f" limits; it needs {manifest.embedding_dim} weights and a limit for 1 picture"
        )
    return sign
