"""The vocabulary file of a CLIP tokenizer: what was written is read, what is damaged is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinlens.bundle.text.clip_tokenizer import ClipTokenizer
from twinlens.bundle.text.clip_vocabulary import (
    build_vocabulary,
    format_merges,
    read_vocabulary,
    write_merges,
)
from twinlens.errors import BundleError

MERGES = [("i", "n"), ("t", "h"), ("th", "e</w>"), ("\u00c3", "\u00a9")]


@pytest.mark.parametrize("name", ["merges.txt", "merges.txt.gz"])
def test_a_vocabulary_file_reads_back_and_is_the_same_bytes_each_time(
    name: str, tmp_path: Path
) -> None:
    write_merges(tmp_path / name, MERGES)
    first = (tmp_path / name).read_bytes()
    write_merges(tmp_path / name, MERGES)
    assert (tmp_path / name).read_bytes() == first
    assert read_vocabulary(tmp_path / name) == build_vocabulary(MERGES)


def test_a_small_vocabulary_numbers_its_specials_after_its_merges() -> None:
    vocabulary = build_vocabulary([("c", "a"), ("ca", "t</w>")])
    assert (vocabulary.start_id, vocabulary.end_id) == (514, 515)
    assert ClipTokenizer(vocabulary, 8).encode(["cat"]) == [[514, 513, 515]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not begin"),
        (b"#version: 0.2\ni n\n", "does not begin"),
        (format_merges([("i", "n")]).encode()[:-2], "truncated"),
        (format_merges([("i", "n")]).encode() + b"one\n", "line 3"),
        (format_merges([("i", "n")]).encode() + b"a b c\n", "line 3"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_bad_vocabulary_file_is_refused_with_its_name(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "merges.txt"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"merges\.txt.*" + words):
        read_vocabulary(path)


def test_a_compressed_vocabulary_that_is_not_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt.gz"
    path.write_text(format_merges([("i", "n")]))
    with pytest.raises(BundleError, match="cannot be read"):
        read_vocabulary(path)
