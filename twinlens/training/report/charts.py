"""Numbers as small SVG pictures: lines over steps, and points of a plane."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, FOOT = 420, 200, 52, 24
COLOURS = ("#2f6fb0", "#c8553d", "#4b8f4b", "#8a5aa8", "#b58900", "#3a9d9d", "#777", "#c06090")

STYLE = (  # without it, areas are filled and levels are invisible
    "figure{display:inline-block;width:440px;margin:0 12px 18px 0;vertical-align:top}"
    "figcaption{font-weight:600;margin-bottom:4px}svg{width:100%}svg text{font-size:10px;fill:#666}"
    ".axis{stroke:#999;fill:none}.level{stroke:#999;stroke-dasharray:4}"
)

Points = Sequence[tuple[float, float]]


def draw_lines(title: str, series: Mapping[str, Points], level: float | None = None) -> str:
    """Return a chart of series of (step, value); `level` is a dashed line, such as chance."""
    shown = {name: points for name, points in series.items() if len(points) > 1}
    if not shown:
        return ""
    flat = [point for points in shown.values() for point in points]
    heights = [y for _, y in flat] + ([] if level is None else [level])
    box = _Box(min(x for x, _ in flat), max(x for x, _ in flat), min(heights), max(heights))
    parts = [box.frame()]
    if level is not None:
        y = box.y(level)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}" class="level"/>')
    for number, points in enumerate(shown.values()):
        path = " ".join(f"{box.x(x)},{box.y(y)}" for x, y in points)
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"/>')
    return _figure(title, "".join(parts), list(shown) if len(shown) > 1 else [])


def draw_points(title: str, points: Points, kinds: Sequence[str], *, framed: bool = False) -> str:
    """Return a scatter plot of points, coloured by kind; `framed` labels the ends of the axes."""
    if not points:
        return ""
    names = sorted(set(kinds))
    xs, ys = [x for x, _ in points], [y for _, y in points]
    box = _Box(min(xs), max(xs), min(ys), max(ys))
    dots = [box.frame()] if framed else []
    dots += [
        f'<circle cx="{box.x(x)}" cy="{box.y(y)}" r="2.5"'
        f' fill="{COLOURS[names.index(kind) % len(COLOURS)]}"><title>{html.escape(kind)}</title>'
        "</circle>"
        for (x, y), kind in zip(points, kinds, strict=True)
    ]
    return _figure(title, "".join(dots), names[: len(COLOURS)] if len(names) > 1 else [])


def draw_page(title: str, charts: Sequence[str]) -> str:
    """Return a page of charts that loads nothing."""
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<title>{html.escape(title)}</title><style>body{{font:15px system-ui;max-width:60em;"
        f"margin:2em auto}}{STYLE}</style><h1>{html.escape(title)}</h1>{''.join(charts)}</html>"
    )


class _Box:
    """Maps values to positions in the picture."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self.left, self.across = left, (right - left) or 1.0
        self.low, self.up = low, (high - low) or 1.0

    def x(self, value: float) -> float:
        return round(LEFT + (value - self.left) / self.across * (WIDTH - LEFT - 4), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - FOOT - (value - self.low) / self.up * (HEIGHT - FOOT - 8), 1)

    def frame(self) -> str:
        """Return the axes with the values at their ends."""
        foot, top, edge = HEIGHT - FOOT, 8, LEFT - 4
        return (
            f'<text x="{edge}" y="{foot}" text-anchor="end">{self.low:.3g}</text>'
            f'<text x="{edge}" y="{top + 8}" text-anchor="end">{self.low + self.up:.3g}</text>'
            f'<text x="{LEFT}" y="{HEIGHT - 6}">{self.left:g}</text>'
            f'<text x="{WIDTH}" y="{HEIGHT - 6}" text-anchor="end">{self.left + self.across:g}'
            f'</text><path d="M{LEFT} {top}V{foot}H{WIDTH}" class="axis"/>'
        )


def _figure(title: str, body: str, names: Sequence[str]) -> str:
    legend = " ".join(
        f'<b style="color:{COLOURS[number % len(COLOURS)]}">{html.escape(name)}</b>'
        for number, name in enumerate(names)
    )
    return (
        f"<figure><figcaption>{html.escape(title)} {legend}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{body}</svg></figure>'
    )
