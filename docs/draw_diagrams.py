"""Draw the diagrams of the docs: docs/img/{rooms,bundle,request}.svg, right by day and by night.

    python docs/draw_diagrams.py

What must stay true: nothing is drawn by hand, so a test can hold each picture to this script.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

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
    """Draw the packages; an arrow is an import that may happen."""
    parts = [
        *_box(300, 10, 200, 52, "cli", ["one command a file"]),
        *_box(
            60,
            104,
            230,
            70,
            "training",
            ["twenty methods, evaluation,", "export; the room with torch"],
        ),
        *_box(510, 104, 230, 52, "serving", ["HTTP, batches, the page"]),
        *_box(510, 200, 230, 52, "index", ["collections on disk, search"]),
        *_box(
            285,
            296,
            230,
            70,
            "bundle",
            ["the contract: manifest, pixels,", "tokens, encoder, golden"],
            "main",
        ),
        *_box(285, 408, 230, 52, "kernels", ["the similarity core"]),
        *_box(285, 502, 230, 36, "errors", []),
        *_arrows(
            "M340 62 L190 100",
            "M460 62 L610 100",
            "M625 156 L625 196",
            "M175 174 L330 292",
            "M600 252 L470 292",
            "M400 366 L400 404",
            "M400 460 L400 498",
        ),
        *_words(400, 140, "never import each other", "small", "middle"),
        *_words(752, 180, "never reach torch,", "note", "start"),
        *_words(752, 196, "not even lazily", "note", "start"),
    ]
    return _svg(890, 552, "The rooms of the package and the imports that may happen", parts)


def draw_bundle() -> str:
    """Draw what a bundle holds and who checks it."""
    rows = [
        ("bundle.json", "the manifest: every choice, every hash, the revision"),
        ("image.onnx", "uint8 pixels to unit rows; mean and deviation are inside"),
        ("text.onnx", "token ids to unit rows; cut to the longest, where that is exact"),
        ("similarity.onnx", "one node: the only place where a score is computed"),
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
