"""The demo corpus on disk: a folder of pictures and a table of their names, photographs last.

`index.csv` has the columns path, name, kind and character. What must stay true: the folder is
created atomically, and a folder that was drawn from the same source is reused.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from twinlens.demo.drawings import count_drawings, draw_all
from twinlens.demo.emoji import EmojiFont, find_font, list_names
from twinlens.demo.photographs import KIND, list_photographs, open_photographs
from twinlens.demo.picture import Picture
from twinlens.errors import ConflictError

SIDE = 128
TABLE, MARK = "index.csv", "demo.json"
_VERSION = 3  # increase it when the same source gives different images
_UNSAFE = r"[^\w-]+"  # characters that some file systems do not allow in names
COLUMNS = ("path", "name", "kind", "character")


@dataclass(frozen=True)
class DemoSource:
    """The source of the images; equal sources give equal images."""

    what: str  # `drawings`, or the file name of the emoji font
    size: int  # of that file
    side: int
    version: int = _VERSION


@dataclass(frozen=True)
class DemoCorpus:
    """A drawn corpus: folder, number of images, source, and whether it was reused."""

    folder: Path
    count: int
    source: DemoSource
    reused: bool

    @property
    def table(self) -> Path:
        """The table of paths and names, which is indexed."""
        return self.folder / TABLE


def draw_corpus(
    folder: Path,
    *,
    find: Callable[[], EmojiFont | None] = find_font,
    track: Callable[[Iterable[Picture], int], Iterable[Picture]] = lambda pictures, total: pictures,
) -> DemoCorpus:
    """Draw the demo corpus into `folder`, or reuse an existing one.

    `find` returns the emoji font; `track` may report progress over an approximate total.
    """
    font = find()
    source = _describe(font)
    if folder.exists():
        reused = _read_mark(folder)
        if reused is not None and reused[0] == source:
            return DemoCorpus(folder, reused[1], source, reused=True)
        if reused is None and any(folder.iterdir()):
            raise ConflictError(f"{folder} holds something else; choose another folder")
        shutil.rmtree(folder)
    if font is None:
        pictures, total = draw_all(SIDE), count_drawings()
    else:
        pictures, total = font.draw_all(SIDE), len(list_names())
    pictures = itertools.chain(pictures, open_photographs())
    total += len(list_photographs())
    return DemoCorpus(folder, _write(folder, source, track(pictures, total)), source, reused=False)


def name_file(name: str) -> str:
    """Return a picture's name as the stem of a file on any system."""
    return re.sub(_UNSAFE, "-", name)


def _describe(font: EmojiFont | None) -> DemoSource:
    if font is None:
        return DemoSource("drawings", 0, SIDE)
    return DemoSource(font.path.name, font.path.stat().st_size, SIDE)


def _write(folder: Path, source: DemoSource, pictures: Iterable[Picture]) -> int:
    """Write all images into a temporary folder, then rename it; return how many."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        rows = [_save(picture, temporary) for picture in pictures]
        with (temporary / TABLE).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
        mark = {"source": asdict(source), "count": len(rows)}
        (temporary / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return len(rows)


def _save(picture: Picture, folder: Path) -> tuple[str, str, str, str]:
    """Save one image; return its row of the table."""
    suffix = "jpg" if picture.kind == KIND else "png"
    path = f"{picture.kind}/{name_file(picture.name)}.{suffix}"
    (folder / path).parent.mkdir(exist_ok=True)
    picture.image.save(folder / path, quality=90)
    return path, picture.name, picture.kind, picture.character


def _read_mark(folder: Path) -> tuple[DemoSource, int] | None:
    """Return a folder's source and number of images; None if it is not a demo corpus."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return DemoSource(**mark["source"]), int(mark["count"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        raise ConflictError(f"{folder / MARK} is damaged; remove {folder} and draw again") from None
