"""The cleaning of texts before tokenization, the same as in the model's training.

What must stay true: each rule gives exactly the result of open_clip's rule of the same name. It
depends on the versions of `ftfy` and `regex`, so both are required dependencies.
"""

from __future__ import annotations

import html
import string
from collections.abc import Callable

import ftfy

# Characters that become plain white space; ftfy removes other control characters.
_WHITESPACE = str.maketrans("\t\n\r\f", "    ")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def is_plain(text: str) -> bool:
    """Return whether `fix_unicode` would change only white space: ASCII, no entity, no control."""
    return (
        text.isascii()
        and "&" not in text
        and (text.isprintable() or text.translate(_WHITESPACE).isprintable())
    )


def fix_unicode(text: str) -> str:
    """Return the text with broken Unicode repaired and HTML entities unescaped twice."""
    text = ftfy.fix_text(text)
    if "&" in text:
        text = html.unescape(html.unescape(text))
    return text


def clean_whitespace(text: str) -> str:
    """Fix Unicode, then replace every run of white space by one space."""
    return " ".join((text if is_plain(text) else fix_unicode(text)).split())


def clean_lower(text: str) -> str:
    """Fix Unicode, one space for every run of white space, lower case."""
    return clean_whitespace(text).lower()


def clean_canonicalize(text: str) -> str:
    """Fix Unicode, drop ASCII punctuation, lower case: SigLIP's rule."""
    text = text if is_plain(text) else fix_unicode(text)
    return " ".join(text.replace("_", " ").translate(_PUNCTUATION).lower().split())


def _keep(text: str) -> str:
    return text


CLEANERS: dict[str, Callable[[str], str]] = {
    "none": _keep,
    "whitespace": clean_whitespace,
    "lower": clean_lower,
    "canonicalize": clean_canonicalize,
}
