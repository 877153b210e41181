"""The loss of the builtin encoder, term by term, as pure functions of rows.

Terms: images against English and against other-language texts at three embedding lengths (so that
an embedding may be truncated), the two texts against each other, styles of one concept against each
other, images against the names of all groups, subgroups and clothing classes (and blends of two
images against both names), and common words against images and their translations. What must stay
true: rows of one label are positives of each other; with the same emoji in eight styles, a loss
with one positive would push them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.builtin.blends import Blends, measure_blends
from recipes.builtin.lexicon import Said

LENGTHS = {256: 1.0, 128: 0.3, 64: 0.4}  # embedding length -> weight
_TEXT_TEXT, _IMAGE_IMAGE = 0.6, 0.4
_BANKS = {"groups": 0.5, "subgroups": 0.3, "clothes": 0.6}
_WORD_IMAGES, _WORD_WORDS = 0.3, 0.3


@dataclass(frozen=True)
class Encoded:
    """The towers' outputs for a batch: rows not yet normalised."""

    images: Tensor  # (n, d)
    english: Tensor  # (k, d), one for each label
    other: Tensor  # (m, d), in other languages, of some of the images
    banks: Mapping[str, Tensor]  # name -> (classes, d)
    words: Tensor  # (w, d), common words, the English ones first
    blends: Tensor  # (b, d)


@dataclass(frozen=True)
class Meaning:
    """The labels of a batch's rows."""

    images: Tensor  # (n,) label of each image
    english: Tensor  # (k,) label of each English text; every image's label is among them
    other: Tensor  # (m,) label of each text in another language
    classes: Mapping[str, Tensor]  # bank -> (n,) class of each image, or -1
    said: Said  # the common words
    blends: Blends


def measure_loss(
    encoded: Encoded, meaning: Meaning, scales: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the weighted terms by name; the loss is their sum."""
    named = _equal(meaning.images, meaning.english)
    meant = _equal(meaning.images, meaning.other)
    spoken = meant.any(1)  # images with a text in another language
    said = meant[spoken]
    terms = {}
    for length, weight in LENGTHS.items():
        images, scale = cut(encoded.images, length), scales["image_text"]
        english, other = cut(encoded.english, length), cut(encoded.other, length)
        terms[f"english_{length}"] = weight * contrast(images, english, named, scale)
        terms[f"other_{length}"] = weight * contrast(images[spoken], other, said, scale)
    images, english, other = map(cut, (encoded.images, encoded.english, encoded.other))
    terms["texts"] = _TEXT_TEXT * _compare_texts(english, other, meaning, scales["text_text"])
    same = _equal(meaning.images, meaning.images)
    terms["styles"] = _IMAGE_IMAGE * contrast_within(images, same, scales["image_image"])
    for name, weight in _BANKS.items():
        known = meaning.classes[name] >= 0
        logits = images[known] @ cut(encoded.banks[name]).T * scales["groups"]
        terms[name] = weight * F.cross_entropy(logits, meaning.classes[name][known])
    banks = {name: cut(rows) for name, rows in encoded.banks.items()}
    blended = measure_blends(
        cut(encoded.blends), banks, meaning.classes, meaning.blends, scales["groups"]
    )
    terms |= {f"blended_{name}": _BANKS[name] * term for name, term in blended.items()}
    return terms | _measure_words(images, cut(encoded.words), meaning.said, scales)


def _compare_texts(english: Tensor, other: Tensor, meaning: Meaning, scale: Tensor) -> Tensor:
    """Return the contrast of English with other languages, over labels that have both."""
    meant = _equal(meaning.english, meaning.other)
    spoken = meant.any(1)
    return contrast(english[spoken], other, meant[spoken], scale)


def _measure_words(
    images: Tensor, words: Tensor, said: Said, scales: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the terms of common words: with all images that they describe, and with each other."""
    if not said.english:
        return {}
    spoken, pictured = said.truth.any(1), said.truth.any(0)
    truth = said.truth[spoken][:, pictured]
    shown = contrast(images[spoken], words[pictured], truth, scales["words"])
    equal = _equal(said.words[: said.english], said.words[said.english :])
    translated = contrast(words[: said.english], words[said.english :], equal, scales["text_text"])
    return {"word_images": _WORD_IMAGES * shown, "word_words": _WORD_WORDS * translated}


def _equal(one: Tensor, two: Tensor) -> Tensor:
    return (one[:, None] == two[None]).float()


def cut(rows: Tensor, length: int = 256) -> Tensor:
    """Return the first `length` columns as unit rows."""
    return F.normalize(rows[:, :length], dim=-1)


def contrast(one: Tensor, two: Tensor, same: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric contrastive loss of rows (n, d) and (m, d).

    `same` (n, m) marks the positives; each row and each column has one.
    """
    logits = one @ two.T * scale
    forward = -(same / same.sum(1, keepdim=True) * F.log_softmax(logits, 1)).sum(1).mean()
    backward = -(same / same.sum(0, keepdim=True) * F.log_softmax(logits, 0)).sum(0).mean()
    return (forward + backward) / 2


def contrast_within(rows: Tensor, same: Tensor, scale: Tensor) -> Tensor:
    """Return the contrastive loss of rows among themselves; rows without a partner do not count."""
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    logits = (rows @ rows.T * scale).masked_fill(itself, -1e4)
    partners = same.masked_fill(itself, 0.0)
    paired = partners.sum(1) > 0
    if not paired.any():
        return rows.sum() * 0.0
    share = partners[paired] / partners[paired].sum(1, keepdim=True)
    return -(share * F.log_softmax(logits[paired], 1)).sum(1).mean()
