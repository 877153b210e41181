"""A tiny corpus for the builtin encoder's tests: coloured squares under made-up names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from recipes.builtin.corpus import Corpus, Part
from recipes.builtin.words import OTHERS, read_words


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _pixels(count: int, seed: int) -> Any:
    colours = np.random.default_rng(seed).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return np.broadcast_to(colours, (count, 64, 64, 3)).copy()


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Twelve concepts in three styles and two subgroups, twenty icons, eight clothes."""
    concepts = {
        f"{number:X}": {
            "hexcode": f"{number:X}",
            "label": f"thing {number}",
            "tags": ["common", f"tag{number}"],
            "group": "objects" if number % 2 else "flags",
            "subgroup": "odd-things" if number % 2 else "even-things",
            "labels": {language: f"{language} {number}" for language in OTHERS},
        }
        for number in range(1, 13)
    }
    emoji = [
        {"hexcode": key, "style": style, "label": concept["label"], "mono": style == "line"}
        for key, concept in concepts.items()
        for style in ("noto", "flat", "line")
    ]
    icons = [{"caption": f"icon {i}", "style": "tabler", "categories": []} for i in range(20)]
    clothes = [{"cls": name} for name in sorted(read_words().clothes)[:8]]
    return Corpus(
        Part(_pixels(len(emoji), 1), emoji, concepts),
        Part(_pixels(len(icons), 2), icons),
        Part(_pixels(len(clothes), 3), clothes),
    )
