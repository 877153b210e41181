"""A sheet of questions: pictures, texts, and the right answers to each question.

A question is a picture or a text, and its answer is the candidate of largest cosine. What must stay
true: a sheet depends on no encoder; a repeated text or picture is stored once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.image.image_source import ImageSource

ItemKind = Literal["picture", "text"]
Wording = tuple[str, ...]  # texts of one answer, whose row is the mean of theirs
ItemNumbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Question:
    """One question; items are numbered within the sheet, pictures and texts separately."""

    query: int
    candidates: ItemNumbers
    right: frozenset[int]  # among the candidates; empty: none of these
    cluster: str  # questions of one cluster, such as those about one picture, are not independent
    group: str = ""
    asks: ItemKind = "picture"
    answers: ItemKind = "text"
    control: bool = False  # shown among the groups, not counted in the score

    @property
    def chance(self) -> float:
        """The share of candidates that are right."""
        return len(self.right) / len(self.candidates)


@dataclass
class Sheet:
    """The questions of a suite, and the items that they refer to by number."""

    pictures: list[ImageSource] = field(default_factory=list)
    texts: list[Wording] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    _known: dict[Wording, int] = field(default_factory=dict)

    def add_picture(self, picture: ImageSource) -> int:
        """Add a picture and return its number."""
        self.pictures.append(picture)
        return len(self.pictures) - 1

    def add_text(self, *wording: str) -> int:
        """Return the number of a text, or of several that form one answer; add a new one."""
        if wording not in self._known:
            self._known[wording] = len(self.texts)
            self.texts.append(wording)
        return self._known[wording]

    def add_pair(self, picture: int, true: str, false: str, cluster: str, group: str) -> None:
        """Ask which of two texts is true of a picture."""
        self.add_choice(picture, true, [false], cluster, group)

    def add_choice(
        self,
        picture: int,
        true: str,
        false: Iterable[str],
        cluster: str,
        group: str,
        *,
        control: bool = False,
    ) -> None:
        """Ask which of several texts is true of a picture."""
        right = self.add_text(true)
        numbers = np.array([right, *(self.add_text(text) for text in false)], np.int64)
        question = Question(
            picture, numbers, frozenset([right]), cluster, group=group, control=control
        )
        self.questions.append(question)
