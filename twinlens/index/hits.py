"""The hits of a search, and how they look in a terminal and in a notebook.

What must stay true: a list of hits is a list; only what is printed of it differs.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlens.bundle.image.thumbnail import make_thumbnail
from twinlens.errors import InputError
from twinlens.index.storage.records import ShownItem
from twinlens.index.vectors.arrays import Floats, Rids

SHOWN = 24  # thumbnails in a notebook
_STYLE = "display:inline-block;width:9rem;margin:.3rem;vertical-align:top;overflow-wrap:anywhere"


@dataclass(frozen=True, slots=True, init=False)
class Hit:
    """One answer of a search."""

    id: str
    score: float
    metadata: dict[str, Any]
    duplicates: tuple[str, ...] = ()  # ids of near-duplicates grouped under this one

    def __init__(
        self,
        id: str,
        score: float,
        metadata: dict[str, Any],
        duplicates: tuple[str, ...] = (),
    ) -> None:
        # In half of the time that the generated one takes; a search makes one for each hit.
        _set_id(self, id)
        _set_score(self, score)
        _set_metadata(self, metadata)
        _set_duplicates(self, duplicates)

    def _repr_html_(self) -> str:
        return _draw(self)


_set_id, _set_score, _set_metadata, _set_duplicates = (
    Hit.__dict__[name].__set__ for name in Hit.__slots__
)


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
        super().__init__(map(Hits, found))

    def __repr__(self) -> str:
        """Return the hits of each query under its number."""
        if len(self) == 1:
            return repr(self[0])
        return "\n".join(f"query {i}:\n{hits!r}" for i, hits in enumerate(self))

    def _repr_html_(self) -> str:
        if len(self) == 1:
            return self[0]._repr_html_()
        return "".join(f"<h4>query {i}</h4>{hits._repr_html_()}" for i, hits in enumerate(self))


def list_hits(
    scores: Floats, rids: Rids, items: Mapping[int, ShownItem], threshold: float | None
) -> HitLists:
    """Return the hits of searches: scores (n, k), and rids (n, k), where -1 is none."""
    lowest = -math.inf if threshold is None else threshold
    return HitLists(
        [
            Hit(items[rid][0], score, items[rid][1])
            for score, rid in zip(row_scores, row_rids, strict=True)
            if rid >= 0 and score >= lowest
        ]
        for row_scores, row_rids in zip(scores.tolist(), rids.tolist(), strict=True)
    )


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
