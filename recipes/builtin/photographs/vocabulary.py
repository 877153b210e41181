"""One tokenizer for two text towers: the drawings' own, with more merges appended.

Merges apply by rank. Appended ones come after every merge of the drawings' tokenizer, so a text is
first split into the tokens that the drawings' tower knows, and then merged into longer ones. What
must stay true: every appended token is a fixed sequence of the first tokenizer's tokens
(`spell_tokens`), so the drawings' tower reads what it always read; a character that it never knew
is its [UNK].
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

LONGEST = 5  # largest number of the first tokenizer's tokens in an appended token
UNKNOWN = 1


def extend_tokenizer(first: Path, texts: Mapping[str, float], size: int, rarest: float) -> Any:
    """Return the tokenizer in `first` with characters and merges of weighted `texts` appended.

    A character needs a weight of at least `rarest`; `size` is the final number of tokens.
    """
    stored = json.loads(first.read_text(encoding="utf-8"))
    old = Tokenizer.from_file(str(first))
    words = _count_words(old, texts)
    vocabulary: dict[str, int] = stored["model"]["vocab"]
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count  # type: ignore[assignment]
    for letter, count in letters.most_common():
        if letter not in vocabulary and count >= rarest:
            vocabulary[letter] = len(vocabulary)
    split = Tokenizer.from_str(json.dumps(stored))
    split.post_processor = None
    pieces = [(split.encode(word).tokens, count) for word, count in words.items()]
    _append_merges(stored["model"], pieces, size)
    return Tokenizer.from_str(json.dumps(stored))


def spell_tokens(tokenizer: Any, first: Any) -> list[list[int]]:
    """Return for every token of `tokenizer` its sequence of tokens of `first`."""
    model = json.loads(tokenizer.to_str())["model"]
    known, vocabulary = first.get_vocab(), model["vocab"]
    spelled = {token: [number] for token, number in known.items()}
    spelled |= {token: [UNKNOWN] for token in vocabulary if token not in known and len(token) == 1}
    for left, right in model["merges"]:
        spelled.setdefault(left + right, spelled[left] + spelled[right])
    return [spelled[token] for token, _ in sorted(vocabulary.items(), key=lambda item: item[1])]


def _count_words(tokenizer: Any, texts: Mapping[str, float]) -> dict[str, float]:
    counts: defaultdict[str, float] = defaultdict(float)
    for text, weight in texts.items():
        clean = tokenizer.normalizer.normalize_str(text)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(clean):
            counts[word] += weight
    return dict(counts)


def _append_merges(model: dict[str, Any], words: list[tuple[list[str], float]], size: int) -> None:
    """Add the most frequent pair repeatedly, until the vocabulary has `size` tokens."""
    vocabulary: dict[str, int] = model["vocab"]
    lengths = dict.fromkeys(vocabulary, 1)
    counts: defaultdict[tuple[str, str], float] = defaultdict(float)
    places: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for number, (tokens, weight) in enumerate(words):
        for pair in _pairs(tokens):
            counts[pair] += weight
            places[pair].add(number)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    while heap and len(vocabulary) < size:
        count, pair = heapq.heappop(heap)
        merged = pair[0] + pair[1]
        if -count != counts[pair] or merged in vocabulary or "[UNK]" in pair:
            continue  # changed meanwhile, or has another spelling
        length = lengths[pair[0]] + lengths[pair[1]]
        if length > LONGEST:
            continue
        vocabulary[merged], lengths[merged] = len(vocabulary), length
        model["merges"].append(list(pair))
        changed = _merge_everywhere(pair, words, counts, places)
        for other in changed:
            heapq.heappush(heap, (-counts[other], other))


def _merge_everywhere(
    pair: tuple[str, str],
    words: list[tuple[list[str], float]],
    counts: defaultdict[tuple[str, str], float],
    places: defaultdict[tuple[str, str], set[int]],
) -> set[tuple[str, str]]:
    """Merge a pair in all words that have it; return the pairs whose counts changed."""
    changed: set[tuple[str, str]] = set()
    for number in list(places[pair]):
        tokens, weight = words[number]
        merged = _merge(tokens, pair)
        before, after = Counter(_pairs(tokens)), Counter(_pairs(merged))
        for other in before.keys() | after.keys():
            if before[other] != after[other]:
                counts[other] += weight * (after[other] - before[other])
                changed.add(other)
            if after[other]:
                places[other].add(number)
            else:
                places[other].discard(number)
        words[number] = (merged, weight)
    counts[pair] = 0.0
    changed.discard(pair)
    return changed


def _merge(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    at = 0
    while at < len(tokens):
        if tuple(tokens[at : at + 2]) == pair:
            merged.append(pair[0] + pair[1])
            at += 2
        else:
            merged.append(tokens[at])
            at += 1
    return merged


def _pairs(tokens: list[str]) -> Iterable[tuple[str, str]]:
    return itertools.pairwise(tokens)
