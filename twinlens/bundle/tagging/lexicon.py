"""The vocabulary of tags: the shipped words, or a user's file with one word per line."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from twinlens.errors import InputError

NAME = "lexicon"  # of the classifier that a server builds from the shipped words
MOST = 100_000
LONGEST = 200  # characters of a word


def read_lexicon() -> tuple[str, ...]:
    """Return the shipped words: everyday things, living things, places and signs, in English."""
    text = files("twinlens.bundle.tagging").joinpath("lexicon.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def read_words(path: Path) -> tuple[str, ...]:
    """Return the words of a file, one on each line; blank lines and repeated words are left out."""
    if not path.is_file():
        raise InputError(f"--words {str(path)!r} is not a file", field="words")
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    words = tuple(dict.fromkeys(line for line in lines if line))
    if not 1 <= len(words) <= MOST:
        raise InputError(
            f"--words {path} has {len(words)} words; give 1 to {MOST}, one on each line",
            field="words",
        )
    long = next((word for word in words if len(word) > LONGEST), None)
    if long is not None:
        raise InputError(
            f"--words {path}: {long[:40]!r} has {len(long)} characters; {LONGEST} are allowed",
            field="words",
        )
    return words
