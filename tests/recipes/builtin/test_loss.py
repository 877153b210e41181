"""The loss: against a plain loop, and in the cases that decide what is learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recipes.builtin.blends import Blends
from recipes.builtin.lexicon import Said
from recipes.builtin.loss import (
    LENGTHS,
    Encoded,
    Meaning,
    contrast,
    contrast_within,
    cut,
    measure_loss,
)

SCALE = torch.tensor(10.0)


def _rows(count: int, seed: int = 0) -> Tensor:
    return cut(torch.randn(count, 256, generator=torch.Generator().manual_seed(seed)))


def _same(labels: list[int]) -> Tensor:
    tensor = torch.tensor(labels)
    return (tensor[:, None] == tensor[None]).float()


def test_contrast_equals_a_plain_loop_over_positives() -> None:
    one, two, labels = _rows(5), _rows(5, 1), [0, 1, 1, 2, 0]
    expected = 0.0
    for left, right in ((one, two), (two, one)):
        for i in range(5):
            logits = [10.0 * float(left[i] @ right[j]) for j in range(5)]
            total = math.log(sum(math.exp(value) for value in logits))
            partners = [j for j in range(5) if labels[j] == labels[i]]
            expected -= sum(logits[j] - total for j in partners) / len(partners) / 10
    found = float(contrast(one, two, _same(labels), SCALE))
    assert math.isclose(found, expected, rel_tol=1e-5)


def test_contrast_takes_several_texts_of_one_image() -> None:
    rows = _rows(3)
    texts, meant = rows[[0, 0, 1, 2]], torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    right = contrast(rows, texts, meant, SCALE)
    assert right < contrast(rows, texts[[3, 2, 1, 0]], meant, SCALE)


def test_contrast_of_unrelated_rows_is_about_chance() -> None:
    value = contrast(_rows(64), _rows(64, 1), torch.eye(64), torch.tensor(1.0))
    assert abs(float(value) - math.log(64)) < 0.05


def test_a_row_without_partner_does_not_count_among_styles() -> None:
    rows = _rows(6)
    alone = contrast_within(rows, _same([0, 0, 1, 1, 2, 3]), SCALE)
    assert torch.isfinite(alone)
    nobody = contrast_within(rows, _same([0, 1, 2, 3, 4, 5]), SCALE)
    assert float(nobody) == 0.0


def test_styles_of_one_concept_pull_together() -> None:
    apart, together = _rows(4), _rows(4)
    together = torch.stack([together[0], together[0], together[1], together[1]])
    same = _same([0, 0, 1, 1])
    assert contrast_within(together, same, SCALE) < contrast_within(apart, same, SCALE)


def _measure(said: Said, words: Tensor) -> dict[str, Tensor]:
    n = 6
    banks = {name: _rows(3, 3) for name in ("groups", "subgroups", "clothes")}
    blends = Blends(
        torch.zeros(3, 3, 2, 2), torch.tensor([0, 4, 1]), torch.tensor([2, 5, 1]), torch.ones(3)
    )
    encoded = Encoded(_rows(n), _rows(n, 1), _rows(7, 2), banks, words, _rows(3, 6))
    classes = {
        "groups": torch.tensor([0, 1, 2, -1, -1, -1]),
        "subgroups": torch.tensor([0, 1, 2, -1, -1, -1]),
        "clothes": torch.tensor([-1, -1, -1, -1, 0, 1]),
    }
    other = torch.tensor([0, 0, 0, 2, 2, 5, 5])
    meaning = Meaning(torch.arange(n), torch.arange(n), other, classes, said, blends)
    comparisons = ("image_text", "text_text", "image_image", "groups", "words")
    return measure_loss(encoded, meaning, dict.fromkeys(comparisons, SCALE))


def _two_words() -> Said:
    """Return two words, each in English and another language; images 0 and 1 show the first."""
    truth = torch.zeros(6, 4)
    truth[0, [0, 2]], truth[1, [0, 2]], truth[4, [1, 3]] = 1.0, 0.25, 0.5
    return Said(["dog", "cat", "Hund", "Katze"], torch.tensor([0, 1, 0, 1]), 2, truth)


def test_every_length_and_every_bank_has_a_term() -> None:
    terms = _measure(_two_words(), _rows(4, 5))
    assert {f"english_{length}" for length in LENGTHS} <= set(terms)
    assert {"texts", "styles", "groups", "subgroups", "clothes"} <= set(terms)
    assert {"word_images", "word_words"} <= set(terms)
    assert {"blended_groups", "blended_subgroups", "blended_clothes"} <= set(terms)
    assert all(torch.isfinite(value) for value in terms.values())


def test_a_word_is_pulled_to_what_it_is_true_of_and_to_its_translation() -> None:
    images = _rows(6)
    right, wrong = images[[0, 4, 0, 4]], images[[4, 0, 0, 4]]
    good, bad = _measure(_two_words(), right), _measure(_two_words(), wrong)
    assert good["word_images"] < bad["word_images"]
    assert good["word_words"] < bad["word_words"]
    assert good["english_256"] == bad["english_256"]


def test_a_word_without_image_is_compared_with_its_translations_only() -> None:
    said, words = _two_words(), _rows(6, 5)
    truth = torch.zeros(6, 6)
    truth[:, [0, 1, 3, 4]] = said.truth
    more = Said(
        ["dog", "cat", "car", "Hund", "Katze", "Auto"], torch.tensor([0, 1, 2] * 2), 3, truth
    )
    with_more = _measure(more, words)
    alone = _measure(said, words[[0, 1, 3, 4]])
    assert with_more["word_images"] == alone["word_images"]
    assert with_more["word_words"] > alone["word_words"]  # three to tell apart, not two


def test_a_batch_without_common_words_has_no_such_term() -> None:
    nothing = Said([], torch.zeros(0, dtype=torch.long), 0, torch.zeros(6, 0))
    assert "word_images" not in _measure(nothing, torch.zeros(0, 256))
