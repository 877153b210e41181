"""What the builtins' calibrations are learned from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recipes.builtin.photographs.calibration import keep_distinct
from twinlens.training.suites.material import Exhibit, Material


class Pairs:
    """Texts of one first letter mean the same."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.eye(26, dtype=np.float32)[[ord(text[0]) - ord("a") for text in texts]]


def test_of_names_that_mean_the_same_the_first_is_kept_with_its_pictures() -> None:
    labels = ("boat", "ball", "cat", "cat", "bus", "dog")
    shown = tuple(Exhibit(str(i), b"", label, ()) for i, label in enumerate(labels))
    examinee: Any = Pairs()
    kept = keep_distinct(examinee, Material("things", shown))
    assert [exhibit.label for exhibit in kept.exhibits] == ["boat", "cat", "cat", "dog"]
