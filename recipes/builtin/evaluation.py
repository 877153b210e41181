"""The evaluation of the builtin encoder on the test split, one gallery per style.

Seen concepts are those of the training split (their noto drawings were trained on); unseen ones are
those of the test split. What must stay true: ties count against the encoder: a row that scores as
high as the right one is ranked before it, so that constant embeddings score 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from recipes.builtin.corpus import Corpus, Part
from recipes.builtin.lexicon import NAMED, Lexicon
from recipes.builtin.words import LANGUAGES, OTHERS, Words

Rows = NDArray[np.float32]
TEMPLATES = ("{}", "a photo of a {}", "a picture of {}", "{} emoji")
_STYLE_PAIRS = (("fluent_3d", "noto"), ("fluent_flat", "noto"), ("emojitwo", "noto"))


class Encoder(Protocol):
    """The encoder to evaluate: unit rows of pixels (n, side, side, 3) and of texts."""

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return unit rows (n, d)."""

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        """Return unit rows (n, d)."""


def evaluate(encoder: Encoder, train: Corpus, test: Corpus, words: Words) -> dict[str, float]:
    """Return all metrics by name, in percent."""
    found: dict[str, float] = {}
    found |= _seen(encoder, train.emoji)
    found |= _across_styles(encoder, train.emoji)
    found |= _plain_words(encoder, train, words)
    found |= _unseen(encoder, test.emoji, words)
    found |= _unheard(encoder, train, test.emoji, words)
    found |= _icons(encoder, test.icons)
    found |= _clothes(encoder, train.clothes, test.clothes, words)
    return {name: round(100 * value, 1) for name, value in found.items()}


def rank(queries: Rows, gallery: Rows, right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank (0 = first) of gallery row `right[i]` for query i; ties rank before it."""
    scores = queries @ gallery.T
    target = scores[np.arange(len(queries)), right]
    ranks: NDArray[np.int64] = (scores >= target[:, None]).sum(1) - 1
    return ranks


def recall(ranks: NDArray[np.int64], k: int) -> float:
    """Return the share of ranks under k."""
    return float((ranks < k).mean())


def average_bank(encoder: Encoder, names: Iterable[str], templates: Iterable[str]) -> Rows:
    """Return one unit row per name: the mean over templates, normalised again."""
    names = list(names)
    total = sum(encoder.embed_texts([t.format(name) for name in names]) for t in templates)
    rows = np.asarray(total, np.float32)
    return _unit(rows)


def _seen(encoder: Encoder, emoji: Part) -> dict[str, float]:
    """Text to image over concepts of the training split: each style, language and length."""
    found = {}
    for style in sorted({row["style"] for row in emoji.rows}):
        gallery = emoji.pick(_is(style))
        images = encoder.encode_pixels(gallery.pixels)
        for language in LANGUAGES if style == "noto" else LANGUAGES[:1]:
            texts = encoder.embed_texts([_label(gallery, i, language) for i in range(len(gallery))])
            ranks = _own(texts, images)
            name = style if language == "en" else f"{style}_{language}"
            found[f"seen_{name}_r1"] = recall(ranks, 1)
            found[f"seen_{name}_r5"] = recall(ranks, 5)
            if style == "noto" and language == "en":
                for length in (64, 128):
                    ranks = _own(_unit(texts[:, :length]), _unit(images[:, :length]))
                    found[f"seen_{name}_dim{length}_r1"] = recall(ranks, 1)
    rest = [found[f"seen_noto_{language}_r1"] for language in OTHERS]
    return found | {"seen_noto_worst_language_r1": min(rest)}


def _plain_words(encoder: Encoder, train: Corpus, words: Words) -> dict[str, float]:
    """Common words alone, in each language: does the first noto picture show the word?"""
    emoji = train.emoji.pick(_is("noto"))
    lexicon = Lexicon(Corpus(emoji, train.icons.pick(_none), train.clothes.pick(_none)), words)
    named = torch.stack([lexicon.weigh(emoji.concept(i)) for i in range(len(emoji))]) >= NAMED
    asked = [name for i, name in enumerate(lexicon.names) if named[:, i].any()]
    if not asked:
        return {}
    right = named.numpy()[:, [lexicon.names.index(name) for name in asked]].T
    images, found = encoder.encode_pixels(emoji.pixels), {}
    for language in LANGUAGES:
        texts = encoder.embed_texts([words.say(name, language) for name in asked])
        scores = texts @ images.T
        best, other = (np.where(mask, scores, -2.0).max(1) for mask in (right, ~right))
        found[f"words_noto_{language}"] = float((best > other).mean())
        if "dog" in asked:
            found[f"dog_noto_{language}"] = float((best > other)[asked.index("dog")])
    return found


def _across_styles(encoder: Encoder, emoji: Part) -> dict[str, float]:
    """Image to image: the same concept in another style."""
    found = {}
    for one, other in _STYLE_PAIRS:
        queries, gallery = emoji.pick(_is(one)), emoji.pick(_is(other))
        place = {row["hexcode"]: i for i, row in enumerate(gallery.rows)}
        queries = queries.pick(_among(place))
        right = np.array([place[row["hexcode"]] for row in queries.rows])
        images = [encoder.encode_pixels(part.pixels) for part in (queries, gallery)]
        found[f"{one}_to_{other}_r1"] = recall(rank(images[0], images[1], right), 1)
    return found


def _unseen(encoder: Encoder, emoji: Part, words: Words) -> dict[str, float]:
    """Concepts that were not trained on: retrieval by label, and the nine groups."""
    found = {}
    groups = sorted(words.groups)
    bank = average_bank(encoder, [words.groups[g]["en"] for g in groups], TEMPLATES)
    for style in ("noto", "fluent_3d", "blobmoji"):
        gallery = emoji.pick(_is(style))
        images = encoder.encode_pixels(gallery.pixels)
        texts = encoder.embed_texts([str(row["label"]) for row in gallery.rows])
        found[f"unseen_{style}_r5"] = recall(_own(texts, images), 5)
        right = [groups.index(gallery.concept(i)["group"]) for i in range(len(gallery))]
        found[f"unseen_{style}_groups"] = _accuracy(images, bank, right)
    return found


def _unheard(encoder: Encoder, train: Corpus, emoji: Part, words: Words) -> dict[str, float]:
    """Unseen concepts whose name no icon and no common word has, among all unseen ones."""
    known_names = {row["caption"].lower() for row in train.icons.rows} | set(words.keywords)
    gallery = emoji.pick(_is("noto"))
    labels = [str(row["label"]) for row in gallery.rows]
    asked = np.array([i for i, label in enumerate(labels) if label.lower() not in known_names])
    texts = encoder.embed_texts([labels[i] for i in asked])
    ranks = rank(texts, encoder.encode_pixels(gallery.pixels), asked)
    return {"unheard_noto_r5": recall(ranks, 5)}


def _icons(encoder: Encoder, icons: Part) -> dict[str, float]:
    """Caption to icon: within each family, and over all families at once."""
    images = encoder.encode_pixels(icons.pixels)
    texts = encoder.embed_texts([str(row["caption"]) for row in icons.rows])
    families = np.array([row["style"] for row in icons.rows])
    ranks = [_own(texts[families == f], images[families == f]) for f in sorted(set(families))]
    return {
        "icons_r5": recall(np.concatenate(ranks), 5),
        "icons_all_families_r5": recall(_own(texts, images), 5),
    }


def _clothes(encoder: Encoder, train: Part, test: Part, words: Words) -> dict[str, float]:
    """Photographs of clothes: zero-shot by name, and a linear probe."""
    from sklearn.linear_model import LogisticRegression

    classes = sorted(words.clothes)
    bank = average_bank(encoder, [words.clothes[c]["en"] for c in classes], TEMPLATES[:3])
    images = encoder.encode_pixels(test.pixels)
    right = [classes.index(row["cls"]) for row in test.rows]
    probe = LogisticRegression(C=100.0, max_iter=3000)
    probe.fit(encoder.encode_pixels(train.pixels), [row["cls"] for row in train.rows])
    return {
        "clothes_zero_shot": _accuracy(images, bank, right),
        "clothes_probe": float(probe.score(images, [row["cls"] for row in test.rows])),
    }


def _own(texts: Rows, images: Rows) -> NDArray[np.int64]:
    return rank(texts, images, np.arange(len(texts)))


def _accuracy(images: Rows, bank: Rows, right: Sequence[int]) -> float:
    return recall(rank(images, bank, np.array(right)), 1)


def _label(part: Part, index: int, language: str) -> str:
    """Return the label in a language, or the English one if there is none."""
    labels: Mapping[str, str] = part.concept(index)["labels"]
    return labels.get(language) or str(part.rows[index]["label"])


def _none(row: Mapping[str, Any]) -> bool:
    return False


def _is(style: str) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row["style"] == style


def _among(known: Mapping[str, int]) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row["hexcode"] in known


def _unit(rows: Rows) -> Rows:
    lengths: Rows = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths)
