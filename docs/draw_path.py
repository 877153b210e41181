"""Draw `docs/img/path.svg`: the path and what is checked at its joints; run it to remake it."""

from __future__ import annotations

from pathlib import Path

_STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1f2328; }
  .small { font-size: 12px; fill: #57606a; }
  .check { font-size: 12px; fill: #0a7d38; }
  .box { fill: #f6f8fa; stroke: #8c959f; }
  .bundle { fill: #ddf4ff; stroke: #0969da; }
  .arrow { stroke: #57606a; stroke-width: 1.5; fill: none; marker-end: url(#head); }
  .head { fill: #57606a; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9198a1; } .check { fill: #3fb950; }
    .box { fill: #161b22; stroke: #6e7681; } .bundle { fill: #0c2d6b; stroke: #58a6ff; }
    .arrow { stroke: #9198a1; } .head { fill: #9198a1; }
  }
"""

# (x, y, width, height, class, title, lines)
_BOXES = [
    (20, 20, 170, 74, "box", "train", ["images, captions", "SimCLR, DINO, CLIP, ..."]),
    (20, 130, 170, 74, "box", "open_clip, timm", ["any model by name", "or by file"]),
    (
        330,
        62,
        180,
        100,
        "bundle",
        "the bundle",
        ["ONNX towers, pixels in", "tokenizer, similarity node", "golden vectors"],
    ),
    (650, 20, 190, 74, "box", "serve", ["/embed  /zeroshot", "/v1/embeddings  /search"]),
    (650, 130, 190, 74, "box", "index", ["ten million images", "a FAISS collection"]),
]
_ARROWS = [
    "M190 57 L325 95",
    "M190 167 L325 130",
    "M510 95 L645 57",
    "M510 130 L645 167",
    "M745 130 L745 99",
]
# (x, y, what is checked there)
_CHECKS = [
    (194, 106, "1 - cosine <= 1e-6"),
    (194, 121, "to torch, or no bundle"),
    (522, 106, "sha256 of every file,"),
    (522, 121, "golden vectors replayed"),
    (753, 118, "one revision"),
]


def draw_path() -> str:
    """Return the picture as SVG text."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 224" role="img" '
        'aria-label="Training or a public model becomes a bundle; server and index open it; '
        'parity is checked at each joint">',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
        '<path class="head" d="M0 0 L7 3 L0 6 z"/></marker></defs>',
    ]
    for x, y, width, height, style, title, lines in _BOXES:
        parts.append(
            f'<rect class="{style}" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'
        )
        parts.append(f'<text x="{x + 12}" y="{y + 24}" font-weight="600">{title}</text>')
        for i, line in enumerate(lines):
            parts.append(f'<text class="small" x="{x + 12}" y="{y + 44 + 17 * i}">{line}</text>')
    parts += [f'<path class="arrow" d="{path}"/>' for path in _ARROWS]
    parts += [f'<text class="check" x="{x}" y="{y}">{words}</text>' for x, y, words in _CHECKS]
    return "\n".join([*parts, "</svg>\n"]).replace("<= ", "&lt;= ")


if __name__ == "__main__":
    target = Path(__file__).parent / "img" / "path.svg"
    target.parent.mkdir(exist_ok=True)
    target.write_text(draw_path(), encoding="utf-8")
