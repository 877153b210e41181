"""Teachers: what a run stores about them, what a batch holds of them, and the losses against them.

With several teachers, a row is their unit embeddings, concatenated and scaled to length 1, so its
cosines are the mean of theirs. What must stay true: a teacher's embedding belongs to the very view
that the student sees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from twinlens.errors import InputError


@dataclass(frozen=True)
class TeacherSettings:
    """The teachers of a run; `--set teachers=SOURCE,...` fills in all but `views` and `seed`."""

    sources: str = ""  # bundles, runs or weights, comma-separated
    views: int = 4  # per picture, embedded once by the teachers; each epoch uses the next one
    seed: int = 0  # for these views
    dims: tuple[int, ...] = ()  # of the embeddings, by teacher
    scales: tuple[float, ...] = ()  # of the similarities
    sizes: tuple[int, ...] = ()  # sides of the teachers' input pictures
    revisions: tuple[str, ...] = ()
    texts: tuple[bool, ...] = ()  # whether each has a text tower
    token_dims: tuple[int, ...] = ()  # of patch tokens; 0 = none

    @property
    def dim(self) -> int:
        """The length of the concatenated row of all teachers."""
        return sum(self.dims)

    @property
    def token_dim(self) -> int:
        """The width of the patch tokens: those of the first teacher that has any."""
        return next((dim for dim in self.token_dims if dim), 0)

    def check(self, method: str) -> None:
        """Refuse a run without teachers."""
        if not self.dims:
            raise InputError(
                f"{method} learns from teachers, and none is given; --set teachers=BUNDLE, a run,"
                " or several, comma-separated",
                field="teachers",
            )


@dataclass(frozen=True)
class Teaching:
    """The teachers' embeddings of the views: `extra["teacher"]` (n, dim).

    With `texts`, those of the captions: `extra["teacher_text"]` (n, dim); with `tokens` the patch
    tokens: `extra["teacher_tokens"]` (n, patches, token_dim).
    """

    settings: TeacherSettings
    texts: bool = False
    tokens: bool = False


def join_rows(parts: Sequence[Tensor]) -> Tensor:
    """Return the teachers' rows (n, dim of each) as one row of unit length."""
    rows = [torch.nn.functional.normalize(part.float(), dim=-1) for part in parts]
    return torch.cat(rows, dim=-1) / math.sqrt(len(rows))


def split_rows(rows: Tensor, dims: Sequence[int]) -> list[Tensor]:
    """Return the unit rows of each teacher."""
    return [torch.nn.functional.normalize(part, dim=-1) for part in rows.split(list(dims), dim=-1)]


def fit_grid(tokens: Tensor, patches: int) -> Tensor:
    """Return patch tokens (n, p, d) of a square grid resampled to a grid of `patches` cells."""
    n, own, dim = tokens.shape
    if own == patches:
        return tokens
    side, wanted = round(own**0.5), round(patches**0.5)
    grid = tokens.mT.reshape(n, dim, side, side)
    resized = torch.nn.functional.interpolate(
        grid, (wanted, wanted), mode="bilinear", antialias=True, align_corners=False
    )
    return resized.flatten(2).mT


def mean_probabilities(pairs: Sequence[tuple[Tensor, Tensor]], scales: Sequence[float]) -> Tensor:
    """Return the mean over teachers of the probability (n, m) that each row matches each column."""
    probabilities = [
        (scale * x @ y.mT).softmax(dim=1) for (x, y), scale in zip(pairs, scales, strict=True)
    ]
    return torch.stack(probabilities).mean(dim=0)


def divergence(probabilities: Tensor, logits: Tensor) -> Tensor:
    """Return KL(probabilities || softmax(logits)), the mean over rows."""
    known: Tensor = torch.special.xlogy(
        probabilities, probabilities
    ) - probabilities * logits.log_softmax(dim=1)
    return known.sum(dim=1).mean()
