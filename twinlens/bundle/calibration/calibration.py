"""A bundle's calibration, learned from pictures whose texts are known: the extension `calibration`.

The best of many cosines is high by chance alone, so the meaning of a cosine depends on the number
of candidates. For several numbers there is a limit, which the best of so many wrong candidates
passes in one case of ten, and a curve, which gives the probability that a right one is among them.
Different kinds of pictures may have different cosines to unrelated texts: then a row `origin` gives
each picture's level, and classes are judged by the cosine above it.

What must stay true: between the measured numbers of candidates, values are interpolated over their
logarithm; beyond them the line through the last two is continued.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Rows
from twinlens.bundle.manifest import Manifest
from twinlens.errors import BundleError

EXTENSION = "calibration"
COSINE = "cosine"
ALARM = 0.1  # share of questions without a right candidate in which the best one passes the limit
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """The meaning of the best cosine among `candidates`: its limit, and a logistic curve."""

    candidates: int
    limit: float
    middle: float  # the cosine at which a right candidate is as likely as none
    slope: float

    def to_row(self) -> list[float]:
        """Return the numbers in the manifest's form."""
        return [self.candidates, *(round(v, 4) for v in (self.limit, self.middle, self.slope))]


@dataclass(frozen=True)
class CosineVerdict:
    """What one question's cosines imply: a probability per candidate, and whether none fits."""

    probabilities: Doubles
    none_of_these: bool


@dataclass(frozen=True)
class Calibration:
    """The calibration of a bundle's cosines.

    `classes` judges texts for a picture, `search` pictures for a text; each has the fewest
    candidates first. `source` names the data, `measured` the results on held-out pictures. `origin`
    is the mean row of texts; empty if cosines to classes are judged without a level.
    """

    temperature: float
    classes: tuple[Evidence, ...]
    search: tuple[Evidence, ...]
    matched: tuple[float, ...]  # quantiles of the cosines of a picture and its text
    unmatched: tuple[float, ...]
    source: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    origin: tuple[float, ...] = ()

    def find_levels(self, pictures: Rows) -> Doubles:
        """Return the level (n,) of each picture (n, d): its cosine to the mean text."""
        if not self.origin:
            return np.zeros(len(pictures))
        levels: Doubles = pictures.astype(np.float64) @ np.array(self.origin)
        return levels

    def judge_classes(
        self, cosines: Rows, scale: float, *, level: float = 0.0, independent: bool = False
    ) -> CosineVerdict:
        """Return the verdict on one picture's cosines (m,) to the offered classes.

        `level` is the picture's, by `find_levels`. The probabilities sum to 1 with that of "none of
        these"; `independent` ones are for each class alone.
        """
        evidence = find_evidence(self.classes, len(cosines))
        over = np.asarray(cosines, np.float64) - level
        best = float(over.max())
        if independent:
            return CosineVerdict(weigh(find_evidence(self.classes, 1), over), best < evidence.limit)
        logits = np.asarray(cosines, np.float64) * scale / self.temperature
        powers = np.exp(logits - logits.max())
        any_of_them = weigh(evidence, np.array([best]))[0]
        return CosineVerdict(any_of_them * powers / powers.sum(), best < evidence.limit)

    def judge_hits(self, cosines: Rows, searched: int) -> CosineVerdict:
        """Return the verdict on a text's hits, best first, among `searched` pictures.

        The probability of a hit is that of a match, if it were the best one.
        """
        evidence = find_evidence(self.search, max(1, searched))
        best = float(cosines.max()) if len(cosines) else -1.0
        return CosineVerdict(weigh(evidence, cosines), best < evidence.limit)

    def to_extension(self) -> dict[str, Any]:
        """Return the calibration in the manifest's form."""
        return {
            "kind": COSINE,
            "temperature": round(self.temperature, 4),
            "classes": [evidence.to_row() for evidence in self.classes],
            "search": [evidence.to_row() for evidence in self.search],
            "quantiles": list(QUANTILES),
            "matched": [round(value, 4) for value in self.matched],
            "unmatched": [round(value, 4) for value in self.unmatched],
            "source": dict(self.source),
            "measured": dict(self.measured),
            **({"origin": list(self.origin)} if self.origin else {}),
        }


def weigh(evidence: Evidence, cosines: Rows | Doubles) -> Doubles:
    """Return the probability that a candidate of each cosine is right, if it were the best."""
    log_odds = np.clip(
        evidence.slope * (np.asarray(cosines, np.float64) - evidence.middle), -60, 60
    )
    return np.asarray(1 / (1 + np.exp(-log_odds)))


def find_evidence(measured: tuple[Evidence, ...], candidates: int) -> Evidence:
    """Return the evidence for the best of so many candidates."""
    exact = [one for one in measured if one.candidates == candidates]
    if exact or len(measured) == 1:
        return (exact or list(measured))[0]
    above = next((i for i, one in enumerate(measured) if one.candidates > candidates), None)
    after = len(measured) - 1 if above is None else max(1, above)
    low, high = measured[after - 1], measured[after]
    span = math.log(high.candidates / low.candidates)
    share = math.log(candidates / low.candidates) / span

    def between(one: float, other: float) -> float:
        return one + share * (other - one)

    slope = high.slope if share > 1 else between(low.slope, high.slope)
    return Evidence(
        candidates, between(low.limit, high.limit), between(low.middle, high.middle), slope
    )


def read_calibration(manifest: Manifest) -> Calibration | None:
    """Return the bundle's calibration; None if it has none, or one of an unknown kind."""
    raw = manifest.extensions.get(EXTENSION)
    if raw is None or raw.get("kind") != COSINE:
        return None
    try:
        found = Calibration(
            float(raw["temperature"]),
            _read_evidence(raw["classes"]),
            _read_evidence(raw["search"]),
            tuple(map(float, raw["matched"])),
            tuple(map(float, raw["unmatched"])),
            dict(raw.get("source", {})),
            dict(raw.get("measured", {})),
            tuple(map(float, raw.get("origin", ()))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"bundle.json: extensions.{EXTENSION} cannot be read ({error}); measure it again with"
            " twinlens calibrate BUNDLE DATA"
        ) from None
    if found.origin and len(found.origin) != manifest.embedding_dim:
        raise BundleError(
            f"bundle.json: extensions.{EXTENSION}.origin has {len(found.origin)} numbers, not"
            f" {manifest.embedding_dim}; measure it again with twinlens calibrate BUNDLE DATA"
        )
    numbers = [one.candidates for one in found.classes]
    if not found.temperature > 0 or not found.search or not numbers or numbers[0] < 1:
        raise BundleError(
            f"bundle.json: extensions.{EXTENSION} needs a temperature above 0, and evidence for"
            " classes and search; measure it again with twinlens calibrate BUNDLE DATA"
        )
    return found


def _read_evidence(rows: list[list[float]]) -> tuple[Evidence, ...]:
    found = tuple(
        Evidence(int(count), float(limit), float(middle), float(slope))
        for count, limit, middle, slope in rows
    )
    counts = [one.candidates for one in found]
    if counts != sorted(set(counts)) or any(count < 1 for count in counts):
        raise ValueError(f"numbers of candidates {counts} do not rise from 1")
    return found
