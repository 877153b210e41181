"""Changed captions keep their grammar and say something else."""

from __future__ import annotations

import os

import numpy as np
import pytest

from twinlens.training.data.word_kinds import WORD
from twinlens.training.suites.material import Exhibit, Material, read_material
from twinlens.training.suites.questions.composition import is_well_formed, write_composition
from twinlens.training.suites.questions.rules import RULES
from twinlens.training.suites.questions.wording import Caption, Vocabulary, mend_articles

NOUNS = Vocabulary(("apple", "bed", "cat", "dog", "owl", "table"), ("cats", "dogs"))


def change(rule: str, text: str) -> str | None:
    seen = {match.group().lower() for match in WORD.finditer(text)}
    return RULES[rule](Caption(text, seen, NOUNS, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("rule", "text", "changed"),
    [
        ("swap object", "A dog on an owl.", "An owl on a dog."),
        ("swap object", "The dog is under the bed", "The bed is under the dog"),
        ("swap object", "a dog and a cat", None),
        ("swap object", "a dog next to a cat", None),
        ("swap object", "a dog on the cats", None),
        ("swap attribute", "a red dog and an orange bed", "an orange dog and a red bed"),
        ("swap attribute", "two dogs chasing three cats", "three dogs chasing two cats"),
        ("swap attribute", "a red and blue bed", None),
        ("replace attribute", "a big dog", "a small dog"),
        ("replace attribute", "the dog is red", None),
        ("replace relation", "A dog on top of the bed", "A dog underneath the bed"),
        ("replace relation", "a dog in front of a table", "a dog behind a table"),
        ("replace relation", "a dog on skis", None),
        ("replace object", "a cup of tea", None),
        ("add attribute", "the dogs", None),
        ("add object", "a dog runs", None),
    ],
)
def test_a_rule_changes_what_it_should_and_nothing_else(
    rule: str, text: str, changed: str | None
) -> None:
    if rule == "add attribute":
        found = change(rule, text)
        assert found in {f"the {c} dogs" for c in ("purple", "pink", "orange", "gold")}
        return
    assert change(rule, text) == changed


def test_a_replaced_object_is_named_by_no_caption_of_the_picture() -> None:
    seen = {"dog", "cat", "owl", "bed", "table"}
    changed = RULES["replace object"](Caption("a dog", seen, NOUNS, np.random.default_rng(0)))
    assert changed == "an apple"


def test_an_added_object_stands_at_the_end_behind_its_article() -> None:
    seen = {"dog", "cat", "owl", "bed", "table"}
    changed = RULES["add object"](
        Caption("The cat sees a dog.", seen, NOUNS, np.random.default_rng(0))
    )
    assert changed == "The cat sees a dog and an apple."


def test_articles_follow_the_sound_of_the_next_word() -> None:
    assert mend_articles("A owl, an unicorn and a hour") == "An owl, a unicorn and an hour"


def test_captions_that_would_give_the_answer_away_are_left_out() -> None:
    assert is_well_formed("an apple on a bed")
    assert not is_well_formed("a apple on a bed")
    assert not is_well_formed("A DOG ON A BED")


def test_photographs_with_five_captions_give_thousands_of_pairs() -> None:
    folder = os.environ.get("TWINLENS_DATA")
    if folder is None:
        pytest.skip("TWINLENS_DATA is not set")
    material = read_material(f"{folder}/coco_mini/test.zip", 0)
    sheet = write_composition(material, ("{}",), 0)
    assert len(sheet.questions) >= 2000
    assert {question.group for question in sheet.questions} == set(RULES)


def test_no_pair_is_true_twice_and_listed_negatives_are_asked() -> None:
    captions = ("a dog on a bed", "a bed on a dog")
    exhibit = Exhibit("1", b"", None, captions, ("a dog under a bed",))
    sheet = write_composition(Material("one", (exhibit,)), ("{}",), 0)
    asked = [(q.group, *(sheet.texts[n][0] for n in q.candidates)) for q in sheet.questions]
    assert ("listed", "a dog on a bed", "a dog under a bed") in asked
    assert not [false for _, _, false in asked if false in captions]
    assert len(asked) == len(set(asked))
