"""Texts to tokens, by a learned vocabulary or CLIP's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twinlens.errors import NotFoundError
from twinlens.training.config import TrainingSettings
from twinlens.training.data.tokens import RunTokenizer, provide_tokenizer


def test_a_learned_vocabulary_tells_captions_apart_and_pads_with_zero(tmp_path: Path) -> None:
    settings = TrainingSettings(vocabulary=60, context=12)
    captions = ["a red square", "a blue circle", "a red circle on a blue square"]
    provide_tokenizer(settings, captions, tmp_path)
    tokenizer = RunTokenizer(settings, tmp_path)
    rows = tokenizer.batch(captions)
    assert rows.shape[0] == 3 and rows.max() < tokenizer.size
    assert len({tuple(row) for row in rows.tolist()}) == 3
    assert (rows[:, 0] == 2).all()  # [CLS]: no text is ever empty
    assert rows[0, -1] == 0 and rows[2, -1] != 0


def test_clips_vocabulary_gives_clips_tokens(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    settings = TrainingSettings(tokenizer="clip", context=77)
    provide_tokenizer(settings, [], tmp_path)
    rows = RunTokenizer(settings, tmp_path).batch(["a photo of a cat!"])
    expected = open_clip.tokenizer.SimpleTokenizer()(["a photo of a cat!"]).numpy()
    assert np.array_equal(rows[0], expected[0, : rows.shape[1]])


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"missing\.json.*captions, clip, or"):
        provide_tokenizer(TrainingSettings(tokenizer="missing.json"), [], tmp_path)
