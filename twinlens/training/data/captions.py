"""The captions of a batch as tokens, sampled anew at each step, with hard negatives if asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlens.training.data.feeder import Draft
from twinlens.training.data.negatives import Negatives
from twinlens.training.data.records import Record
from twinlens.training.seeds import generator


class Tokenize(Protocol):
    """Texts to padded tokens (n, length)."""

    def __call__(self, texts: list[str]) -> NDArray[np.int64]:
        """Return the tokens."""
        ...


@dataclass(frozen=True)
class CaptionTokens:
    """Adds `tokens` (n, length) to a batch and, if asked, `negatives` (n, count, length).

    With `answers`, also the teachers' embeddings of the sampled captions: `teacher_text` (n, dim).
    """

    records: Sequence[Record]
    tokenize: Tokenize
    negatives: Negatives | None
    seed: int
    rank: int
    answers: Callable[[Sequence[str]], Tensor] | None = None  # of teachers, to captions
    needs_views: ClassVar[bool] = False

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Return the tokens of one caption of each image."""
        records = [self.records[index] for index in draft.records]
        texts = draw_captions(records, draft.draws)
        found = {"tokens": torch.from_numpy(self.tokenize(texts))}
        if self.answers is not None:
            found["teacher_text"] = self.answers(texts)
        if self.negatives is not None:
            found["negatives"] = self._negatives(self.negatives, records, texts, draft.step)
        return found

    def _negatives(
        self, negatives: Negatives, records: Sequence[Record], texts: Sequence[str], step: int
    ) -> Tensor:
        # A separate random stream, so that negatives change nothing else in the step.
        draws = generator(self.seed, step, self.rank, 47)
        wrong = [
            text
            for record, own in zip(records, texts, strict=True)
            for text in negatives.of(record, own, draws)
        ]
        tokens = torch.from_numpy(self.tokenize(wrong))
        return tokens.view(len(records), negatives.count, -1)


def draw_captions(records: Sequence[Record], draws: torch.Generator) -> list[str]:
    """Return one caption of each record, drawn at random."""
    picks = torch.rand(len(records), generator=draws).tolist()
    return [
        record.captions[int(pick * len(record.captions))]
        for record, pick in zip(records, picks, strict=True)
    ]
