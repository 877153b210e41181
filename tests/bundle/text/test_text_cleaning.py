"""Cleaning gives what open_clip's rule of the same name gives."""

from __future__ import annotations

import pytest

from tests.bundle.text.fuzz_texts import fuzz_texts
from twinlens.bundle.text.text_cleaning import CLEANERS


@pytest.mark.parametrize("rule", ["whitespace", "lower", "canonicalize"])
def test_cleaning_equals_open_clips_rule_of_that_name(rule: str) -> None:
    reference = pytest.importorskip("open_clip.tokenizer").get_clean_fn(rule)
    texts = [*fuzz_texts(3_000, seed=11), "a\tb\r\nc\fd", "a\x0bb\x1cc", "x & y", "&lt;", "_a_"]
    assert [t for t in texts if CLEANERS[rule](t) != reference(t)] == []
