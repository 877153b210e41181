"""The demo corpus on disk: a folder of PNG files and a table of their names.

`index.csv` has the columns path, name, kind and character. What must stay true: the folder appears
whole or not at all, and a folder that was drawn from the same source is kept as it is.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from twinlens.demo.drawings import count_drawings, draw_all
from twinlens.demo.emoji import EmojiFont, find_font, list_characters
from twinlens.demo.picture import Picture
from twinlens.errors import ConflictError

SIDE = 128
TABLE, MARK = "index.csv", "demo.json"
_VERSION = 1  # raise it when the same source would give other pictures
COLUMNS = ("path", "name", "kind", "character")


@dataclass(frozen=True)
class DemoSource:
    """What the pictures were drawn from; equal sources give equal pictures."""

    what: str  # `drawings`, or the file name of the emoji font
    size: int  # of that file
    side: int
    version: int = _VERSION


@dataclass(frozen=True)
class DemoCorpus:
    """A drawn corpus: its folder, how many pictures, from what, and whether it was there before."""

    folder: Path
    count: int
    source: DemoSource
    kept: bool

    @property
    def table(self) -> Path:
        """The table of paths and names: what to index."""
        return self.folder / TABLE


def draw_corpus(
    folder: Path,
    *,
    find: Callable[[], EmojiFont | None] = find_font,
    track: Callable[[Iterable[Picture], int], Iterable[Picture]] = lambda pictures, total: pictures,
) -> DemoCorpus:
    """Draw the demo corpus into `folder`, or keep the one that is there.

    `find` looks for the emoji font; `track` may report progress over about so many.
    """
    font = find()
    source = _describe(font)
    if folder.exists():
        kept = _read_mark(folder)
        if kept is not None and kept[0] == source:
            return DemoCorpus(folder, kept[1], source, kept=True)
        if kept is None and any(folder.iterdir()):
            raise ConflictError(f"{folder} holds something else; name another folder for the demo")
        shutil.rmtree(folder)
    if font is None:
        pictures, total = draw_all(SIDE), count_drawings()
    else:
        pictures, total = font.draw_all(SIDE), len(list_characters())
    return DemoCorpus(folder, _write(folder, source, track(pictures, total)), source, kept=False)


def find_cache() -> Path:
    """Return the folder in which this user's programs keep what they can make again."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", str(Path.home() / "AppData/Local")))
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "twinlens"


def _describe(font: EmojiFont | None) -> DemoSource:
    if font is None:
        return DemoSource("drawings", 0, SIDE)
    return DemoSource(font.path.name, font.path.stat().st_size, SIDE)


def _write(folder: Path, source: DemoSource, pictures: Iterable[Picture]) -> int:
    """Write all pictures beside `folder`, then rename; return how many."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        rows = [_save(picture, beside) for picture in pictures]
        with (beside / TABLE).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
        mark = {"source": asdict(source), "count": len(rows)}
        (beside / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return len(rows)


def _save(picture: Picture, folder: Path) -> tuple[str, str, str, str]:
    """Save one picture; return its row of the table."""
    path = f"{picture.kind}/{picture.name.replace(' ', '-')}.png"
    (folder / path).parent.mkdir(exist_ok=True)
    picture.image.save(folder / path)
    return path, picture.name, picture.kind, picture.character


def _read_mark(folder: Path) -> tuple[DemoSource, int] | None:
    """Return from what a folder was drawn, and how many; None if it is no demo corpus."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return DemoSource(**mark["source"]), int(mark["count"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        raise ConflictError(f"{folder / MARK} is damaged; remove {folder} and draw again") from None
