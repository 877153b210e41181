"""Texts drawn for images: true to the image, and even over languages."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

from recipes.builtin.captions import (
    CLOTHES_LANGUAGES_A_STEP,
    LANGUAGES_A_STEP,
    Captioner,
    list_texts,
)
from recipes.builtin.corpus import Corpus
from recipes.builtin.words import LANGUAGES, OTHERS, read_words


def _captioner(corpus: Corpus) -> Captioner:
    return Captioner(corpus, read_words(), random.Random(0))


def test_every_table_of_words_has_all_languages() -> None:
    words = read_words()
    assert set(words.templates) == set(LANGUAGES)
    for names in (*words.groups.values(), *words.clothes.values()):
        assert set(names) == set(LANGUAGES)
    for keyword, names in words.keywords.items():
        assert set(names) == set(OTHERS), keyword
    assert all(template.count("{}") == 1 for ts in words.templates.values() for template in ts)


def test_the_ten_other_languages_are_drawn_evenly(corpus: Corpus) -> None:
    captioner, drawn = _captioner(corpus), Counter[str]()
    for _ in range(600):
        said = captioner.others([0, 1, 2])  # three styles of one concept
        assert len(said) == LANGUAGES_A_STEP
        for index, text in said:
            assert index == 0
            drawn[next(language for language in OTHERS if f"{language} 1" in text)] += 1
    assert min(drawn[language] for language in OTHERS) >= 180


def test_each_kind_of_clothes_is_named_in_other_languages_and_icons_are_not(
    corpus: Corpus,
) -> None:
    icons = len(corpus.emoji)
    clothes = icons + len(corpus.icons)
    said = _captioner(corpus).others([icons, icons + 1, clothes, clothes + 1, clothes])
    named = [index for index, _ in said]
    assert named == [clothes] * CLOTHES_LANGUAGES_A_STEP + [clothes + 1] * CLOTHES_LANGUAGES_A_STEP


def test_english_texts_describe_their_own_concept(corpus: Corpus) -> None:
    captioner = _captioner(corpus)
    for _ in range(200):
        text = captioner.english(3)  # the first style of the second concept
        assert "thing 2" in text or "tag2" in text or text == "common"


def test_icons_and_clothes_keep_their_names(corpus: Corpus) -> None:
    captioner = _captioner(corpus)
    icons = len(corpus.emoji)
    assert "icon 4" in captioner.english(icons + 4)
    names = read_words().clothes_in_english[corpus.clothes.rows[1]["cls"]]
    assert any(name in captioner.english(icons + len(corpus.icons) + 1) for name in names)


def test_the_bank_names_groups_then_subgroups_then_clothes(corpus: Corpus) -> None:
    captioner = _captioner(corpus)
    assert captioner.subgroups == ["even things", "odd things"]
    bank = captioner.bank()
    assert len(bank) == len(captioner.groups) + 2 + len(captioner.clothes)
    assert "even things" in bank[len(captioner.groups)]


def test_the_tokenizer_sees_every_label(corpus: Corpus) -> None:
    texts = set(list_texts(corpus, read_words()))
    assert {"thing 7", "ja 7", "icon 19", "even things"} <= texts


def test_a_keyword_with_translations_is_said_in_the_other_language(corpus: Corpus) -> None:
    concept = {**corpus.emoji.concepts["1"], "tags": ["dog"]}
    emoji = dataclasses.replace(corpus.emoji, concepts={**corpus.emoji.concepts, "1": concept})
    captioner = _captioner(dataclasses.replace(corpus, emoji=emoji))
    said = {text for _ in range(200) for _, text in captioner.others([0])}
    assert {"Hund", "chien", "perro", "犬"} <= said


def test_an_icon_belongs_to_the_group_that_all_its_categories_name(corpus: Corpus) -> None:
    captioner = _captioner(corpus)
    animals = captioner.groups.index("animals-nature")
    assert captioner.icon_group({"categories": ["Animals", "Nature", "Actions"]}) == animals
    assert captioner.icon_group({"categories": ["Animals", "Foods"]}) == -1
    assert captioner.icon_group({"categories": ["Actions"]}) == -1
    assert captioner.icon_group({}) == -1
    assert captioner.icon_group({"style": "meteocons"}) == captioner.groups.index("travel-places")


def test_aliases_and_icon_groups_refer_to_known_words() -> None:
    words = read_words()
    assert set(words.aliases.values()) <= set(words.keywords)
    assert not set(words.aliases) & set(words.keywords)
    assert set(words.icon_groups.values()) <= set(words.groups)
    assert len(words.keywords) > 250
