"""Draw `docs/img/recall.svg`: recall against queries a second, as `benchmarks/search.py` found.

python docs/draw_recall.py FILE [FILE ...]
"""

from __future__ import annotations

import html
import json
import math
import sys
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 420, 78, 50, 40, 210
LOWEST = 0.7  # recall at the left edge
COLOURS = (
    "#0969da", "#bc4c00", "#8250df", "#1a7f37", "#bf3989",
    "#6e7781", "#9a6700", "#1b7c83", "#cf222e", "#4d2d00", "#e16f24",
)  # fmt: skip

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .axis { stroke: #8c959f; } .grid { stroke: #d0d7de; stroke-width: .5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .axis { stroke: #6e7681; } .grid { stroke: #30363d; }
  }
"""

FLAT = "FAISS Flat"
LEFT_OUT = ("filter ", "at 0", "real ", "upsert", "hot reload", "open ")

Point = tuple[float, float]  # recall, queries a second of one core


def main(sources: list[Path]) -> None:
    """Write the picture beside this file, of one run or of several that belong together.

    What two runs measured is shown as in the later one: a line holds for the minutes of one run.
    """
    contents = [json.loads(source.read_text()) for source in sources]
    series: dict[str, list[Point]] = {}
    for content in contents:
        series |= collect_series(content["rows"])
    first = contents[0]
    picture = draw(series, f"{first['name']}: text queries, one core, {first['machine']}")
    out = Path(__file__).parent / "img" / "recall.svg"
    out.write_text(picture, encoding="utf-8")


def collect_series(rows: list[dict[str, Any]]) -> dict[str, list[Point]]:
    """Return the points of each contender: rows named `NAME, DIAL VALUE` belong to NAME.

    A row `KIND for TARGET` is a kind as tuned. What repeats a point, or is no point, is left out.
    """
    series: dict[str, list[Point]] = {}
    for row in rows:
        what = str(row["what"])
        name, comma, _ = what.partition(", ")
        kind, tuned, _ = what.partition(" for ")
        if not row.get("ms") or what.startswith(LEFT_OUT):
            continue
        if name == "exact" and row.get("stock_ms"):
            series.setdefault("exact, batched", []).append((1.0, 1000 / float(row["ms"])))
            series.setdefault(FLAT, []).append((1.0, 1000 / row["stock_ms"]))
        elif isinstance(row.get("recall"), float | int):
            label = name if comma else f"twinlens {kind}, tuned" if tuned else what
            series.setdefault(label, []).append((float(row["recall"]), 1000 / float(row["ms"])))
    return series


def draw(series: dict[str, list[Point]], title: str) -> str:
    """Return the SVG: recall to the right, queries a second upwards on a log scale."""
    rates = [rate for points in series.values() for _, rate in points]
    low = 10 ** math.floor(math.log10(min(rates)))
    high = 10 ** math.ceil(math.log10(max(rates)))
    parts = [f'<text x="{LEFT}" y="22">{html.escape(title)}</text>', *_axes(low, high)]
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(_x(recall), _y(rate, low, high)) for recall, rate in sorted(points)]
        shown = [(x, y) for x, y in places if x >= LEFT]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in shown]
        height = TOP + 20 * number + 10
        parts.append(
            f'<text x="{WIDTH - RIGHT + 15}" y="{height}" style="fill:{colour}">'
            f"{html.escape(name)}</text>"
        )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' aria-label="Recall at ten against queries a second">'
        f"<style>{_STYLE}</style>\n{body}\n</svg>\n"
    )


def _axes(low: float, high: float) -> list[str]:
    parts = []
    for step in range(7):
        recall = LOWEST + step * (1 - LOWEST) / 6
        x = _x(recall)
        parts.append(f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{HEIGHT - BOTTOM}" class="grid"/>')
        parts.append(f'<text x="{x - 14}" y="{HEIGHT - BOTTOM + 18}">{recall:.2f}</text>')
    rate = low
    while rate <= high:
        y = _y(rate, low, high)
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" class="grid"/>')
        parts.append(f'<text x="8" y="{y + 4}">{rate:,.0f}/s</text>')
        rate *= 10
    parts.append(
        f'<line x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{WIDTH - RIGHT}" y2="{HEIGHT - BOTTOM}"'
        ' class="axis"/>'
    )
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 10}">recall@10 of text queries</text>')
    return parts


def _x(recall: float) -> float:
    return LEFT + (recall - LOWEST) / (1 - LOWEST) * (WIDTH - RIGHT - LEFT)


def _y(rate: float, low: float, high: float) -> float:
    share = (math.log10(rate) - math.log10(low)) / (math.log10(high) - math.log10(low))
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
