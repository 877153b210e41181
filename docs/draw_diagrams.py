"""Draw the diagrams of the docs: docs/img/{rooms,bundle,request}.svg, right by day and by night.

    python docs/draw_diagrams.py

What must stay true: nothing is drawn by hand, so a test can hold each picture to this script.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs.tree import PACKAGE, Tree, measure_heights, read_rooms, room_of

OUT = Path(__file__).parent / "img"
_STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1f2328; }
  .small { font-size: 12px; fill: #57606a; }
  .bold { font-weight: 600; }
  .note { font-size: 12px; fill: #0a7d38; }
  .box { fill: #f6f8fa; stroke: #8c959f; }
  .main { fill: #ddf4ff; stroke: #0969da; }
  .bad { fill: #ffebe9; stroke: #cf222e; }
  .arrow { stroke: #57606a; stroke-width: 1.5; fill: none; marker-end: url(#head); }
  .head { fill: #57606a; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9198a1; } .note { fill: #3fb950; }
    .box { fill: #161b22; stroke: #6e7681; } .main { fill: #0a2149; stroke: #58a6ff; }
    .bad { fill: #3d1418; stroke: #f85149; }
    .arrow { stroke: #9198a1; } .head { fill: #9198a1; }
  }
"""


def draw_rooms() -> str:
    """Draw the rooms with their folders; arrows are the imports that are found in the tree."""
    tree = Tree(PACKAGE)
    imports = read_rooms(tree)
    boxes = _place_rooms(tree, imports)
    bottom = max(box.y + box.height for box in boxes.values())
    parts = [part for room, box in boxes.items() for part in box.draw(room)]
    parts += _arrows(
        *(
            boxes[room].lead_to(boxes[other])
            for room in boxes
            for other in sorted(drop_implied(imports)[room])
        )
    )
    parts += _box(_MARGIN, bottom + 30, _WIDTH - 2 * _MARGIN, 36, "errors", [])
    users = {room_of(name) for name, found in tree.imports.items() if f"{PACKAGE}.errors" in found}
    said = "every room" if users >= set(imports) else ", ".join(sorted(users))
    parts += _words(_MARGIN + 80, bottom + 52, f"imported by {said}", "small", "start")
    label = "The rooms of the package with their folders, and the imports between them"
    return _svg(_WIDTH, bottom + 76, label, parts)


_WIDTH, _MARGIN, _GAP = 900, 10, 20
_LETTERS = 38  # of a line of small text in the narrowest box


@dataclass(frozen=True)
class _RoomBox:
    """Where a room is drawn, and the lines in it."""

    x: int
    y: int
    width: int
    folders: tuple[str, ...]
    imported: str

    @property
    def height(self) -> int:
        """Return how high it is: a title, its folders, and what it imports."""
        return 36 + 16 * (len(self.folders) + bool(self.imported))

    def draw(self, room: str) -> list[str]:
        """Return the box, its name and its lines."""
        kind = "main" if room == "bundle" else "box"
        parts = _box(self.x, self.y, self.width, self.height, room, self.folders, kind)
        if self.imported:
            last = self.y + 40 + 16 * len(self.folders)
            parts += _words(self.x + 10, last, f"imports {self.imported}", "note", "start")
        return parts

    def lead_to(self, other: _RoomBox) -> str:
        """Return an arrow from here to a box below."""
        middle, below = self.x + self.width // 2, other.x + other.width // 2
        aim = min(max(middle, other.x + 40), other.x + other.width - 40)
        start = min(max(below, self.x + 40), self.x + self.width - 40)
        return f"M{start} {self.y + self.height} L{aim} {other.y - 5}"


def _place_rooms(tree: Tree, imports: Mapping[str, set[str]]) -> dict[str, _RoomBox]:
    """Return a box for each room: those that nobody imports on top, each below its importers."""
    importers = {room: {one for one in imports if room in imports[one]} for room in imports}
    depths = measure_heights(importers)
    boxes: dict[str, _RoomBox] = {}
    y = _MARGIN
    for depth in range(max(depths.values()) + 1):
        row = sorted((r for r in depths if depths[r] == depth), key=lambda r: -len(imports[r]))
        width = (_WIDTH - 2 * _MARGIN - _GAP * max(0, len(row) - 1)) // max(len(row), 2)
        left = (_WIDTH - width * len(row) - _GAP * (len(row) - 1)) // 2
        for i, room in enumerate(row):
            lines = wrap(", ".join(_list_parts(tree, room)), _LETTERS * width // 280)
            imported = ", ".join(sorted(imports[room]))
            boxes[room] = _RoomBox(left + i * (width + _GAP), y, width, tuple(lines), imported)
        y = max(boxes[room].y + boxes[room].height for room in row) + 34
    return boxes


def _list_parts(tree: Tree, room: str) -> list[str]:
    """Return the folders of a room, or its modules where it has none."""
    name = f"{PACKAGE}.{room}"
    return [module.stem for module in tree.packages_in(name) or tree.files_in(name)]


def drop_implied(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports without those that other arrows lead to as well."""

    def reach(room: str) -> set[str]:
        return imports[room].union(*(reach(other) for other in imports[room]))

    return {
        room: {other for other in found if not any(other in reach(o) for o in found - {other})}
        for room, found in imports.items()
    }


def draw_bundle() -> str:
    """Draw what a bundle holds and who checks it."""
    rows = [
        ("bundle.json", "the manifest: every choice, every hash, the revision"),
        ("image.onnx", "uint8 pixels to unit rows; mean and deviation are inside"),
        ("text.onnx", "token ids to unit rows; cut to the longest, where that is exact"),
        ("similarity.onnx", "one node that computes the scores of classes"),
        ("tokenizer", "merges or tokenizer.json"),
        ("golden.npz", "inputs, and what torch answered"),
        ("variants", "int8, fp16: kept if they stay near; attention.onnx"),
    ]
    parts = ['<rect class="main" x="250" y="20" width="440" height="300" rx="8"/>']
    parts += _words(266, 46, "the bundle: a folder, never changed", "", "start", bold=True)
    for i, (name, what) in enumerate(rows):
        parts += _words(266, 78 + 35 * i, name, "", "start")
        parts += _words(266, 93 + 35 * i, what, "small", "start")
    parts += [
        *_box(20, 60, 160, 70, "export", ["from a run, open_clip", "or timm"]),
        *_box(760, 30, 160, 52, "server", ["replays golden at start"]),
        *_box(760, 120, 160, 52, "index", ["refuses other revisions"]),
        *_box(760, 210, 160, 52, "your program", ["open_bundle(path)"]),
        *_arrows("M180 95 L246 95", "M690 100 L756 60", "M690 146 L756 146", "M690 200 L756 232"),
        *_words(20, 156, "ONNX Runtime within 1e-6", "note", "start"),
        *_words(20, 172, "of torch, or no bundle", "note", "start"),
        *_words(760, 290, "each hashes every file first", "note", "start"),
    ]
    return _svg(940, 336, "What a bundle holds, who writes it and who opens it", parts)


def draw_request() -> str:
    """Draw the stages of a request, with what is refused where."""
    stages = [
        ("receive", "key, limits", "401 403 429"),
        ("parse", "items by name", "400 413"),
        ("decode", "a pool; to size", "that item's error"),
        ("queue", "bounded", "429 504"),
        ("encode", "micro-batches", "halved if it fails"),
        ("score", "the one node", "409 other revision"),
        ("answer", "JSON or bytes", "part by part"),
    ]
    parts: list[str] = []
    for i, (name, what, refused) in enumerate(stages):
        x = 16 + 128 * i
        parts += _box(x, 30, 110, 52, name, [what], "main" if name == "encode" else "box")
        parts += _words(x + 55, 104, refused, "small", "middle")
        if i:
            parts += _arrows(f"M{x - 18} 56 L{x - 4} 56")
    parts += _words(16, 18, "one event loop", "note", "start")
    parts += _words(272, 18, "threads, one a core", "note", "start")
    parts += _words(528, 18, "a worker with ONNX Runtime, watched", "note", "start")
    parts += _words(
        16,
        134,
        "Each stage is a histogram in /metrics and a time in Server-Timing.",
        "small",
        "start",
    )
    return _svg(916, 146, "The stages of a request and what each may refuse", parts)


DIAGRAMS: dict[str, Callable[[], str]] = {
    "rooms": draw_rooms,
    "bundle": draw_bundle,
    "request": draw_request,
}


def _svg(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{label}">'
    )
    marker = (
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
        '<path class="head" d="M0 0 L7 3 L0 6 z"/></marker></defs>'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", marker, *parts, "</svg>\n"])


def _box(
    x: int, y: int, width: int, height: int, title: str, lines: Sequence[str], kind: str = "box"
) -> list[str]:
    parts = [f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>']
    parts += _words(x + 10, y + 22, title, "", "start", bold=True)
    for i, line in enumerate(lines):
        parts += _words(x + 10, y + 40 + 16 * i, line, "small", "start")
    return parts


def _words(x: int, y: int, text: str, kind: str, anchor: str, *, bold: bool = False) -> list[str]:
    style = "bold" if bold else kind
    return [f'<text class="{style}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>']


def _arrows(*paths: str) -> list[str]:
    return [f'<path class="arrow" d="{path}"/>' for path in paths]


if __name__ == "__main__":
    for name, draw in DIAGRAMS.items():
        (OUT / f"{name}.svg").write_text(draw(), encoding="utf-8")
