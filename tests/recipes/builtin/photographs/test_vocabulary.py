"""One tokenizer for two text towers."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from recipes.builtin.photographs.vocabulary import LONGEST, UNKNOWN, extend_tokenizer, spell_tokens
from twinlens.bundle.location import DRAWINGS, find_bundle

TEXTS = {
    "golden retriever": 20.0,
    "a photo of a golden retriever in the snow": 5.0,
    "リトリーバー犬": 10.0,
    "龘 dragon": 10.0,
    "zebra crossing": 8.0,
}


@pytest.fixture(scope="module")
def first() -> Path:
    return find_bundle(DRAWINGS) / "tokenizer.json"


def test_longer_tokens_are_spelled_in_the_first_tokenizers_very_tokens(first: Path) -> None:
    longer = extend_tokenizer(first, TEXTS, 8260, rarest=4.0)
    old = Tokenizer.from_file(str(first))
    spelling = spell_tokens(longer, old)
    texts = [*TEXTS, "Unseen words, größer 赤いハート", "golden zebra", "犬犬犬 龘龘"]
    for text in texts:
        spelled = [t for token in longer.encode(text).ids for t in spelling[token]]
        assert spelled == old.encode(text).ids
    assert max(map(len, spelling)) <= LONGEST


def test_frequent_words_become_shorter_and_new_characters_known(first: Path) -> None:
    longer = extend_tokenizer(first, TEXTS, 8260, rarest=4.0)
    old = Tokenizer.from_file(str(first))
    assert longer.encode("golden retriever").tokens == ["[CLS]", "golden", "retriever"]
    assert UNKNOWN in old.encode("龘").ids
    assert UNKNOWN not in longer.encode("龘").ids


def test_a_rare_character_stays_unknown(first: Path) -> None:
    longer = extend_tokenizer(first, {"龘": 1.0, "golden": 9.0}, 8200, rarest=4.0)
    assert UNKNOWN in longer.encode("龘").ids
