"""The hits of a search, and how they look in a terminal and in a notebook.

What must stay true: a list of hits is a list; only what is printed of it differs.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlens.bundle.image.thumbnail import make_thumbnail
from twinlens.errors import InputError

SHOWN = 24  # thumbnails in a notebook
_STYLE = "display:inline-block;width:9rem;margin:.3rem;vertical-align:top;overflow-wrap:anywhere"


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search."""

    id: str
    score: float
    metadata: dict[str, Any]
    duplicates: tuple[str, ...] = ()  # ids of near-duplicates grouped under this one

    def _repr_html_(self) -> str:
        return _draw(self)


class Hits(list[Hit]):
    """The hits of one query, best first."""

    def __repr__(self) -> str:
        """Return a line for each hit."""
        lines = [f"{hit.score:.4f}  {hit.id}" for hit in self]
        return "\n".join(lines) if lines else "no hits"

    def _repr_html_(self) -> str:
        left = len(self) - SHOWN
        rest = f"<p>and {left} more</p>" if left > 0 else ""
        return "".join(map(_draw, self[:SHOWN])) + rest if self else "<p>no hits</p>"


class HitLists(list[Hits]):
    """The hits of several queries, one list for each."""

    def __init__(self, found: Iterable[Iterable[Hit]] = ()) -> None:
        super().__init__(Hits(one) for one in found)

    def __repr__(self) -> str:
        """Return the hits of each query under its number."""
        if len(self) == 1:
            return repr(self[0])
        return "\n".join(f"query {i}:\n{hits!r}" for i, hits in enumerate(self))

    def _repr_html_(self) -> str:
        if len(self) == 1:
            return self[0]._repr_html_()
        return "".join(f"<h4>query {i}</h4>{hits._repr_html_()}" for i, hits in enumerate(self))


def _draw(hit: Hit) -> str:
    """Return a hit as markup; what is read from files and metadata is escaped."""
    name = html.escape(hit.id)
    raw = _read_thumbnail(hit.metadata.get("path"))
    source = "" if raw is None else base64.b64encode(raw).decode()
    picture = (
        f'<img src="data:image/webp;base64,{source}" alt="{name}" style="max-width:100%"><br>'
        if source
        else ""
    )
    return f'<span style="{_STYLE}">{picture}<b>{hit.score:.3f}</b> {name}</span>'


def _read_thumbnail(path: object) -> bytes | None:
    if not isinstance(path, str):
        return None
    try:
        return make_thumbnail(Path(path).read_bytes())
    except (OSError, InputError):
        return None
