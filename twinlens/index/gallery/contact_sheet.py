"""A page of thumbnails for a search's hits: one self-contained HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from twinlens.bundle.image.thumbnail import make_thumbnail
from twinlens.errors import InputError
from twinlens.index.hits import Hit
from twinlens.index.ingest.corpus import read_path

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 2rem; background: Canvas; color: CanvasText;
       color-scheme: light dark; }}
h2 {{ font-size: 1rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }}
img {{ width: 100%; aspect-ratio: 1; object-fit: contain; background: #8882; }}
figcaption {{ overflow-wrap: anywhere; }}
b {{ font-variant-numeric: tabular-nums; }}
</style>
<h1>{title}</h1>
{groups}
</html>
"""


def write_sheet(hits: Sequence[Hit], title: str, path: Path) -> Path:
    """Write the page and return its path; a missing image leaves its figure empty."""
    return write_group_sheet([("", hits)], title, path)


def write_group_sheet(groups: Sequence[tuple[str, Sequence[Hit]]], title: str, path: Path) -> Path:
    """Write a page with a row of thumbnails under each heading, and return its path."""
    parts = []
    for heading, hits in groups:
        figures = "\n".join(_figure(hit) for hit in hits)
        above = f"<h2>{html.escape(heading)}</h2>\n" if heading else ""
        parts.append(f"{above}<main>\n{figures}\n</main>")
    page = _PAGE.format(title=html.escape(title), groups="\n".join(parts))
    path.write_text(page, encoding="utf-8")
    return path


def _figure(hit: Hit) -> str:
    raw = _read(hit)
    picture = ""
    if raw is not None:
        source = f"data:image/webp;base64,{base64.b64encode(raw).decode()}"
        picture = f'<img src="{source}" alt="{html.escape(hit.id)}">'
    caption = f"<b>{hit.score:.3f}</b> {html.escape(hit.id)}"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _read(hit: Hit) -> bytes | None:
    path = hit.metadata.get("path")
    if not isinstance(path, str):
        return None
    try:
        return make_thumbnail(read_path(path))
    except (OSError, InputError):
        return None
