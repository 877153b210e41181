"""The ways a text is cleaned before it is tokenized, as the model saw its captions in training.

Must stay true: each rule gives exactly what open_clip's rule of the same name gives. The versions
of `ftfy` and `regex` decide with it, so both are dependencies, not options.
"""

from __future__ import annotations

import html
import string
from collections.abc import Callable

import ftfy

# What ftfy turns into, or leaves as, plain white space. Other control characters it removes.
_WHITESPACE = str.maketrans("\t\n\r\f", "    ")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def is_plain(text: str) -> bool:
    """Say whether mending would change nothing but white space: ASCII, no entity, no control."""
    return (
        text.isascii()
        and "&" not in text
        and (text.isprintable() or text.translate(_WHITESPACE).isprintable())
    )


def mend(text: str) -> str:
    """Return the text with broken Unicode mended and HTML entities resolved, twice over."""
    text = ftfy.fix_text(text)
    if "&" in text:
        text = html.unescape(html.unescape(text))
    return text


def clean_whitespace(text: str) -> str:
    """Mend, then one space for every run of white space."""
    return " ".join((text if is_plain(text) else mend(text)).split())


def clean_lower(text: str) -> str:
    """Mend, one space for every run of white space, lower case."""
    return clean_whitespace(text).lower()


def clean_canonicalize(text: str) -> str:
    """Mend, drop ASCII punctuation, lower case: SigLIP's rule."""
    text = text if is_plain(text) else mend(text)
    return " ".join(text.replace("_", " ").translate(_PUNCTUATION).lower().split())


def _keep(text: str) -> str:
    return text


CLEANERS: dict[str, Callable[[str], str]] = {
    "none": _keep,
    "whitespace": clean_whitespace,
    "lower": clean_lower,
    "canonicalize": clean_canonicalize,
}
