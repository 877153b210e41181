"""The vocabulary file of a CLIP tokenizer: one byte-pair merge per line.

    # twinlens clip merges 1
    i n
    t h
    ...

UTF-8 lines ending in LF, the strongest merge first. The ids are: 256 bytes, the same 256
at the end of a word (`</w>`), one per merge, start of text, end of text. A file ending in `.gz` is
the same text compressed. Must stay true: equal merges give equal bytes, including gzip.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from twinlens.errors import BundleError

HEADER = "# twinlens clip merges 1"
END_OF_WORD = "</w>"
Merge = tuple[str, str]


@dataclass(frozen=True)
class ClipVocabulary:
    """Merges with their ranks and pieces with their ids."""

    ranks: dict[Merge, int]
    ids: dict[str, int]
    start_id: int
    end_id: int


def format_merges(merges: Iterable[Merge]) -> str:
    """Return the text of the vocabulary file with these merges, strongest first."""
    lines = [HEADER, *(f"{left} {right}" for left, right in merges)]
    return "\n".join(lines) + "\n"


def write_merges(path: Path, merges: Iterable[Merge]) -> None:
    """Write the vocabulary file; a path that ends in `.gz` is compressed."""
    content = format_merges(merges).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def read_vocabulary(path: Path) -> ClipVocabulary:
    """Return the vocabulary in a file written by `write_merges`."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    except (OSError, EOFError, ValueError) as error:
        raise BundleError(f"tokenizer file {path.name} cannot be read: {error}") from error
    return build_vocabulary(_parse_merges(text, path.name))


def build_vocabulary(merges: list[Merge]) -> ClipVocabulary:
    """Number the merges and their pieces."""
    letters = list(byte_letters().values())
    pieces = [*letters, *(letter + END_OF_WORD for letter in letters)]
    pieces += [left + right for left, right in merges]
    start = len(pieces)
    return ClipVocabulary(
        ranks={merge: rank for rank, merge in enumerate(merges)},
        # Two merges may give one piece: the later id is used.
        ids={piece: number for number, piece in enumerate(pieces)},
        start_id=start,
        end_id=start + 1,
    )


def byte_letters() -> dict[int, str]:
    """Return the visible letter for each byte, in the order of the ids.

    Bytes that print in Latin-1 represent themselves and come first; the others (controls, space,
    soft hyphen) become the letters from U+0100 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    letters = {byte: chr(byte) for byte in visible}
    letters |= {byte: chr(0x100 + i) for i, byte in enumerate(hidden)}
    return letters


def _parse_merges(text: str, name: str) -> list[Merge]:
    lines = text.split("\n")
    if lines[0] != HEADER:
        raise BundleError(f"tokenizer file {name} does not begin with {HEADER!r}")
    if lines[-1]:
        raise BundleError(f"tokenizer file {name} does not end with a newline: it is truncated")
    merges = []
    for number, line in enumerate(lines[1:-1], start=2):
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise BundleError(
                f"tokenizer file {name}, line {number}: expected two pieces, got {line!r}"
            )
        merges.append((left, right))
    return merges
