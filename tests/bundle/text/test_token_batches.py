"""What every tokenizer does around its rule: rows padded to an array, bad texts named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlens.bundle.text.token_batches import check_texts, longest, pad_rows
from twinlens.errors import InputError

ROWS = st.lists(st.lists(st.integers(0, 2**40), max_size=9), max_size=6)


@given(ROWS, st.integers(-1, 50_000), st.integers(0, 3))
def test_rows_are_padded_on_the_right(rows: list[list[int]], pad_id: int, more: int) -> None:
    length = longest(rows) + more
    batch = pad_rows(rows, pad_id, length)
    assert batch.dtype == np.int64
    assert batch.shape == (len(rows), length)
    assert batch.tolist() == [row + [pad_id] * (length - len(row)) for row in rows]


def test_no_rows_have_no_length() -> None:
    assert longest([]) == 0
    assert pad_rows([], 0, 0).shape == (0, 0)


@pytest.mark.parametrize(
    ("texts", "field", "words"),
    [
        ("one text", "texts", r"wrap it in \[ \]"),
        (b"bytes", "texts", "one bytes"),
        (iter(["a"]), "texts", "expected a list"),
        ([], "texts", "at least one string"),
        (["a", 3], r"texts[1]", "of type int"),
        (["a", "b", ""], r"texts[2]", "empty string"),
    ],
)
def test_a_bad_text_is_refused_by_its_place(texts: Any, field: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        check_texts(texts)
    assert caught.value.field == field


def test_good_texts_pass() -> None:
    check_texts(["a", "\n", "日本"])
    check_texts(("a",))
