"""CLIP's tokenizer against open_clip's: the same ids for every string, and the same truncation."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bundle.text.fuzz_texts import fuzz_texts
from twinlens.bundle.text import clip_tokenizer
from twinlens.bundle.text.clip_tokenizer import ClipTokenizer, merge_pieces
from twinlens.bundle.text.clip_vocabulary import (
    build_vocabulary,
)
from twinlens.errors import InputError

open_clip_tokenizer = pytest.importorskip("open_clip.tokenizer")


@pytest.fixture(scope="module")
def reference() -> Any:
    return open_clip_tokenizer.SimpleTokenizer()


@pytest.fixture(scope="module")
def merges(reference: Any) -> list[tuple[str, str]]:
    return list(reference.bpe_ranks)


@pytest.fixture(scope="module")
def tokenizer(merges: list[tuple[str, str]]) -> ClipTokenizer:
    return ClipTokenizer(build_vocabulary(merges), context_length=77)


def mismatches(texts: list[str], reference: Any, tokenizer: ClipTokenizer) -> list[str]:
    expected = reference(texts).numpy()
    given = tokenizer.batch(texts, cut=False)
    assert given.shape == expected.shape
    return [texts[i] for i in np.flatnonzero((given != expected).any(1))]


def in_parts(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    part = []
    for text in texts:
        part.append(text)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def test_a_hundred_thousand_fuzz_strings_get_open_clips_ids(
    reference: Any, tokenizer: ClipTokenizer
) -> None:
    wrong = [
        text
        for part in in_parts(fuzz_texts(100_000), 2_000)
        for text in mismatches(part, reference, tokenizer)
    ]
    assert wrong == []


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_strings_that_hypothesis_finds_get_open_clips_ids(texts: list[str]) -> None:
    assert mismatches(texts, _reference(), _tokenizer()) == []


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "\n",
        "\x00",
        "a&amp;amp;b",
        "<start_of_text> a <end_of_text>",
        "<\u017ftart_of_text>",
        "it'\u017f 'S 'RE",
        "\u212a \u0130 \u00df ﬁ ΟΔΟΣ",
        "x" * 2_000,
        "ab" * 500 + "é",
        "a " * 3_000,
        "é " * 1_500,
        "tab\tnew\nline\rfeed\f",
        "a\x0bb\x1cc\x85d",
        "half \ud800 pair",
        "pair \ud83d\ude00 apart",
        "\x1b[31mred\x1b[0m",
        "</w> </w>",
    ],
)
def test_an_adversarial_string_gets_open_clips_ids(
    text: str, reference: Any, tokenizer: ClipTokenizer
) -> None:
    assert mismatches([text], reference, tokenizer) == []


def test_the_end_of_text_survives_every_cut(reference: Any, merges: list[tuple[str, str]]) -> None:
    texts = ["a", "a photo", "a photo of a cat", "a " * 100, "b " * 2_000]
    for context in (2, 3, 5, 6, 77):
        tokenizer = ClipTokenizer(build_vocabulary(merges), context)
        expected = reference(texts, context_length=context).numpy()
        np.testing.assert_array_equal(tokenizer.batch(texts, cut=False), expected)
        for row in tokenizer.encode(texts):
            assert len(row) <= context
            assert row[-1] == 49407


def test_a_cut_batch_is_the_padded_one_without_its_empty_columns(tokenizer: ClipTokenizer) -> None:
    texts = ["a cat", "a photo of two dogs", "x"]
    rows = tokenizer.encode(texts)
    cut = tokenizer.batch(texts, cut=True)
    assert cut.dtype == np.int64
    assert cut.shape == (3, max(map(len, rows)))
    padded = tokenizer.batch(texts, cut=False)
    np.testing.assert_array_equal(padded[:, : cut.shape[1]], cut)
    assert not padded[:, cut.shape[1] :].any()


def test_padding_is_the_pad_id(merges: list[tuple[str, str]]) -> None:
    tokenizer = ClipTokenizer(build_vocabulary(merges), 8, pad_id=49407)
    assert tokenizer.batch(["a"], cut=False).tolist() == [[49406, 320, *[49407] * 6]]


def test_a_text_never_depends_on_its_neighbours(tokenizer: ClipTokenizer) -> None:
    texts = list(fuzz_texts(300, seed=5))
    assert tokenizer.encode(texts) == [tokenizer.encode([text])[0] for text in texts]


@pytest.mark.parametrize(
    ("texts", "field"),
    [("a cat", "texts"), ([], "texts"), (["a", ""], "texts[1]"), (["a", "b", 3], "texts[2]"),
     ([None], "texts[0]"), (iter(["a"]), "texts"), (None, "texts"), ([b"a"], "texts[0]")],
)  # fmt: skip
def test_an_error_names_the_index_of_a_bad_input(
    texts: list[str], field: str, tokenizer: ClipTokenizer
) -> None:
    with pytest.raises(InputError) as caught:
        tokenizer.encode(texts)
    assert caught.value.field == field
    assert caught.value.message.startswith(field + " ")


def test_the_cache_of_words_is_bounded(
    merges: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_tokenizer, "CACHED_WORDS", 50)
    words = clip_tokenizer._WordIds(build_vocabulary(merges))
    fresh = clip_tokenizer._WordIds(build_vocabulary(merges))
    for i in range(500):
        word = f"word{i % 70}"
        assert words[word] == fresh._merge(word)
        assert len(words) <= 50
    assert len(words["y" * 1_000]) > 1
    assert "y" * 1_000 not in words


def test_threads_share_a_tokenizer(
    merges: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_tokenizer, "CACHED_WORDS", 64)  # so that it is cleared often
    texts = list(fuzz_texts(600, seed=9))
    tokenizer = ClipTokenizer(build_vocabulary(merges), 77)
    expected = tokenizer.encode(texts)
    answers: list[list[list[int]]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(tokenizer.encode(texts))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 6


def test_a_word_of_a_hundred_thousand_letters_takes_seconds_not_hours(
    tokenizer: ClipTokenizer,
) -> None:
    before = time.process_time()
    row = tokenizer.encode(["abcdefghij" * 10_000])[0]
    assert len(row) == 77
    assert time.process_time() - before < 5  # 0.3 s here; the plain rule is quadratic


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_merging_by_heap_equals_merging_by_repeated_scans(pieces: list[str], rng: Any) -> None:
    pairs = ["a b", "b c", "a a", "c c", "ab c", "a bc", "aa aa", "abc ab", "abc c", "cc abc"]
    rng.shuffle(pairs)
    ranks = {(left, right): i for i, (left, right) in enumerate(pair.split() for pair in pairs)}
    assert merge_pieces(pieces, ranks) == merge_by_sweeps(pieces, ranks)


def merge_by_sweeps(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """The plain algorithm: find the strongest pair, join it everywhere."""
    while True:
        known = [pair for pair in pairwise(pieces) if pair in ranks]
        if not known:
            return pieces
        best, out, i = min(known, key=ranks.__getitem__), [], 0
        while i < len(pieces):
            if tuple(pieces[i : i + 2]) == best:
                out.append("".join(best))
                i += 2
            else:
                out.append(pieces[i])
                i += 1
        pieces = out


def _reference() -> Any:
    return open_clip_tokenizer._tokenizer


def _tokenizer() -> ClipTokenizer:
    global _shared
    if _shared is None:
        _shared = ClipTokenizer(build_vocabulary(list(_reference().bpe_ranks)), 77)
    return _shared


_shared: ClipTokenizer | None = None
