"""Find long sentences: `python docs/prose.py [PAGE ...]` prints those of each page, longest first.

Most readers read a sentence of more than `LIMIT` words twice. What must stay true: code, addresses
and generated parts are not prose; a cell of a table and an item of a list end a sentence.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 30
_GENERATED = re.compile(r"^<!-- ([\w -]+): made by.*?^<!-- end of \1 -->$", re.M | re.S)
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
_BREAK = re.compile(r"^(?:#+ .*|\s*[-*] |\s*\d+\. )", re.M)
_STOP = re.compile(r"(?<=[.!?])[)\"'*]*\s+(?=[\"'(*`\[]*[A-Z`\d])")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a page, on one line."""

    text: str
    words: int


def read_sentences(page: str) -> list[Sentence]:
    """Return the sentences of a page in Markdown, in its order."""
    return [
        Sentence(text, count_words(text)) for part in _read_parts(page) for text in _split(part)
    ]


def find_long_sentences(page: str, limit: int = LIMIT) -> list[Sentence]:
    """Return the sentences of more than `limit` words."""
    return [sentence for sentence in read_sentences(page) if sentence.words > limit]


def count_words(text: str) -> int:
    """Count what is read as words: a piece of code is one, a mark alone is none."""
    plain = re.sub(r"`[^`]*`", "code", text)
    return sum(1 for word in plain.split() if re.search(r"\w", word))


def _read_parts(page: str) -> list[str]:
    """Return paragraphs, items and cells, without links' addresses."""
    page = _FENCE.sub("\n\n", _GENERATED.sub("\n\n", page))
    page = re.sub(r"<!--.*?-->|<[^>\n]+>", " ", page, flags=re.S)
    page = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", page)
    parts: list[str] = []
    for block in re.split(r"\n\s*\n", _BREAK.sub("\n\n", page)):
        rows = block.strip().splitlines()
        if rows and all(row.startswith("|") for row in rows):
            parts += [cell for row in rows for cell in re.split(r"(?<!\\)\|", row)]
        else:
            parts.append(" ".join(rows))
    return [" ".join(part.split()) for part in parts if re.search(r"[A-Za-z]", part)]


def _split(part: str) -> list[str]:
    kept = re.sub(r"\b(e\.g|i\.e|et al|vs|cf|approx)\.", r"\1", part)
    return [text for text in _STOP.split(kept) if text]


def main(names: list[str]) -> None:
    """Print the long sentences of the named pages, or of all."""
    pages = [Path(name) for name in names] or [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found = find_long_sentences(text)
        sys.stdout.write(f"{page.name}: {len(found)} of {len(read_sentences(text))} sentences\n")
        for sentence in sorted(found, key=lambda one: -one.words):
            sys.stdout.write(f"  {sentence.words}: {sentence.text}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
