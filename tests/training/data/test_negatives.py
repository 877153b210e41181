"""Hard-negative captions: given ones first, made ones differ in one word of the same kind."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch

from tests.training.family import small_config, write_images
from twinlens.training.data.negatives import Negatives
from twinlens.training.data.records import Record, fingerprint
from twinlens.training.data.sources import open_source
from twinlens.training.data.word_kinds import COLOURS, NUMBERS, WORD, find_nouns
from twinlens.training.seeds import generator

CAPTIONS = (
    "a red ball on the table",
    "two dogs beside a blue chair",
    "three cats and a green ball",
    "a large dog near the chair",
    "four dogs with a table",
)


def records(*captions: str, negatives: tuple[str, ...] = ()) -> list[Record]:
    return [Record(f"{text}.png", 1, None, (text,), negatives) for text in captions]


def draws(seed: int = 0) -> torch.Generator:
    return generator(seed, 1)


def test_nouns_are_told_from_where_words_stand() -> None:
    singular, plural = find_nouns(CAPTIONS)
    assert singular == ["ball", "chair", "table"] and plural == ["cats", "dogs"]
    assert "large" not in singular  # after an article, but before a noun


def test_a_made_negative_swaps_one_word_for_another_of_its_kind() -> None:
    found = records(*CAPTIONS)
    negatives = Negatives(found, 3)
    kinds = [COLOURS, NUMBERS, *map(frozenset, find_nouns(CAPTIONS))]
    for seed in range(10):
        for record in found:
            own = record.captions[0]
            made = negatives.of(record, own, draws(seed))
            assert len(made) == 3
            for text in made:
                before, after = WORD.findall(own), WORD.findall(text)
                pairs = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
                assert len(pairs) == 1
                assert any(set(pairs[0]) <= kind for kind in kinds)


def test_given_negatives_come_first_and_made_ones_fill_up() -> None:
    found = records(*CAPTIONS, negatives=("a green ball on the table", "no ball"))
    own = found[0].captions[0]
    assert set(Negatives(found, 2).of(found[0], own, draws())) == set(found[0].negatives)
    three = Negatives(found, 3).of(found[0], own, draws())
    assert set(three[:2]) == set(found[0].negatives) and three[2] not in (own, *three[:2])


def test_where_nothing_can_be_swapped_another_images_caption_serves() -> None:
    found = records("zebra crossing", "yin yang")
    assert Negatives(found, 2).of(found[0], "zebra crossing", draws()) == ["yin yang"] * 2


def test_a_corpus_of_one_caption_still_has_a_negative() -> None:
    found = records("yin yang")
    assert Negatives(found, 1).of(found[0], "yin yang", draws()) == ["not yin yang"]


def test_a_negative_is_none_of_the_images_own_captions() -> None:
    own = ("a red ball", "a blue ball", "a Green ball")
    record = Record("x.png", 1, None, own)
    negatives = Negatives([record], 1)
    for seed in range(40):
        (text,) = negatives.of(record, own[0], draws(seed))
        assert text.lower() not in {caption.lower() for caption in own}


def test_negatives_depend_on_the_draws_alone() -> None:
    found = records(*CAPTIONS)
    again = [Negatives(found, 2).of(found[0], CAPTIONS[0], draws(seed)) for seed in (3, 3, 4)]
    assert again[0] == again[1] != again[2]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_given_negatives_are_read_and_belong_to_the_fingerprint(kind: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 3)
    plain = fingerprint(open_source(str(folder)).records)
    if kind == "folder":
        (folder / "red" / "000.negatives.txt").write_text("a blue square\n\na green one\n")
        read = open_source(str(folder)).records
        assert fingerprint(read) != plain
        (found,) = (record for record in read if record.key == "red/000.png")
    else:
        row = {"file": "x.png", "caption": "a", "negatives": ["a blue square", "a green one"]}
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
            file.write(folder / "red" / "000.png", "x.png")
            file.writestr("index.jsonl", json.dumps(row))
        (found,) = open_source(str(tmp_path / "x.zip")).records
    assert found.negatives == ("a blue square", "a green one")


def test_negatives_leave_every_other_draw_of_a_step_as_it_is(tmp_path: Path) -> None:
    """Views, order and captions of a run do not depend on how many negatives there are."""
    from twinlens.training.loop.opening import open_session
    from twinlens.training.progress import Silent

    data = str(write_images(tmp_path / "data", 12))
    batches = []
    for name in ("clip", "clip-negatives"):
        session = open_session(small_config(name), data, tmp_path / name, Silent())
        batches.append(session.feeder.batch(2))
        session.close()
    plain, more = batches
    assert torch.equal(plain.views["global"], more.views["global"])
    assert torch.equal(plain.extra["tokens"], more.extra["tokens"])
    assert more.extra["negatives"].shape[:2] == (8, 2) and "negatives" not in plain.extra
