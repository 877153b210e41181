"""Lay out the pages for the docs site: `python docs/site.py FOLDER`, as `make docs` does.

The pages are written to be read on their own and on a forge; a site wants the README as its home,
links within itself, and fences without our tags. What must stay true: nothing is fetched, and a
link that leads out of the site leads to the repository.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/twinlens/twinlens/blob/main/"
HOME = "README.md"
# Where a page of the repository stands in the site; the others keep their names below docs/.
MOVED = {HOME: "index.md", "docs/index.md": "collections.md", "CONTRIBUTING.md": "contributing.md"}


def list_sources() -> list[Path]:
    """Return every page of the site, as files of the repository."""
    pages = [ROOT / HOME, ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
    pages += sorted(ROOT.glob("docs/benchmarks/*.md")) + sorted(ROOT.glob("docs/log/*.md"))
    return [*pages, *sorted(ROOT.glob("docs/decisions/*.md"))]


def place_of(source: Path) -> str:
    """Return where a page or picture of the repository stands in the site."""
    name = source.relative_to(ROOT).as_posix()
    return MOVED.get(name, name.removeprefix("docs/"))


def assemble(target: Path) -> list[str]:
    """Write the pages and pictures to `target`; return the places of the pages."""
    pages = {source: place_of(source) for source in list_sources()}
    for source, place in pages.items():
        path = target / place
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _strip_tags(source.read_text(encoding="utf-8"))
        path.write_text(_relink(text, source, pages), encoding="utf-8")
    shutil.copytree(ROOT / "docs" / "img", target / "img", dirs_exist_ok=True)
    return sorted(pages.values())


def _strip_tags(text: str) -> str:
    return re.sub(r"^```(\w+) [\w ]+$", r"```\1", text, flags=re.MULTILINE)


def _relink(text: str, source: Path, pages: dict[Path, str]) -> str:
    """Point links and pictures of a page to where they lead in the site."""

    def move(target: str) -> str:
        path, mark, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:") or not path:
            return target
        found = (source.parent / path).resolve()
        here = posixpath.dirname(pages[source]) or "."
        if found in pages or (ROOT / "docs" / "img") in found.parents:
            return posixpath.relpath(place_of(found), here) + mark + anchor
        return REPOSITORY + found.relative_to(ROOT).as_posix() + mark + anchor

    text = re.sub(r"\]\(([^)\s]+)\)", lambda found: f"]({move(found[1])})", text)
    return re.sub(r'(src|srcset)="([^"]+)"', lambda found: f'{found[1]}="{move(found[2])}"', text)


if __name__ == "__main__":
    assemble(Path(sys.argv[1]))
