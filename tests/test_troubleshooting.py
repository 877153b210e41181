"""The messages that the page quotes are those that the source has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"
HOLE = "\0"  # where the source puts in a name or a number


def read_messages() -> list[str]:
    """Return what stands in code marks in the first column, but for what nobody prints."""
    cells = re.findall(r"^\| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    quoted = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    return [text for text in quoted if " " in text]


@cache
def read_source() -> list[str]:
    """Return every string of the package."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "twinlens").rglob("*.py")]
    return [text for tree in trees for text in list_strings(tree)]


def list_strings(tree: ast.AST) -> Iterator[str]:
    """Yield strings whole, with holes where they are filled in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                part.value if isinstance(part, ast.Constant) else HOLE for part in node.values
            )


def is_in(message: str, source: list[str]) -> bool:
    """Whether a string of the source reads as `message` does, `...` standing for anything."""
    return any(has_in_order(text, message.split("...")) for text in source)


def has_in_order(text: str, parts: list[str]) -> bool:
    """Whether the parts stand in the text one after the other."""
    at = 0
    for part in parts:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


@pytest.mark.parametrize("message", read_messages())
def test_a_quoted_message_is_in_the_source(message: str) -> None:
    assert is_in(message, read_source())


def test_a_message_that_nobody_prints_is_found_out() -> None:
    assert len(read_messages()) > 30
    assert not is_in("the export needs ...; run: apt install twinlens", read_source())
    assert is_in("a ... c", ["a b c"]) and not is_in("a ... c", ["a b", "c"])
