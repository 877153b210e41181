"""The pages' sentences are short, and what counts them counts words of prose alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.prose import count_words, find_long_sentences, read_sentences

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHARE = 0.02  # of a page's sentences that may be long


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_long_sentences_are_rare(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    allowed = max(1, int(SHARE * len(read_sentences(text))))
    found = [f"{sentence.words} words: {sentence.text}" for sentence in find_long_sentences(text)]
    assert len(found) <= allowed, "\n".join([f"split all but {allowed} of these:", *found])


def test_code_and_generated_parts_are_no_prose() -> None:
    page = "One two.\n\n```sh\nmake all of it\n```\n"
    page += "\n<!-- map: made by x -->\nIn it.\n<!-- end of map -->\n"
    assert [sentence.text for sentence in read_sentences(page)] == ["One two."]


def test_a_link_counts_by_its_text_and_code_as_a_word() -> None:
    (sentence,) = read_sentences("See [the page](https://example.org/a/b) for `make all`.")
    assert sentence.text == "See the page for `make all`."
    assert sentence.words == count_words("See the page for code") == 5


def test_items_cells_and_headings_end_a_sentence() -> None:
    page = "# Title\nAn item\n- first\n- second\n\n| a cell | more |\n|---|---|\n| one | two |\n"
    texts = [sentence.text for sentence in read_sentences(page)]
    assert texts == ["An item", "first", "second", "a cell", "more", "one", "two"]


def test_a_sentence_is_long_from_the_word_after_the_limit() -> None:
    exact = " ".join(["word"] * 30) + "."
    assert find_long_sentences(f"{exact} Short one.") == []
    assert [s.words for s in find_long_sentences(f"More {exact}\nShort one.")] == [31]
