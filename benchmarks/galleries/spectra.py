"""How families spread their variance over directions: one line each, in small plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

WIDTH, HEIGHT, ROOM, COLUMNS = 150, 84, 26, 5
LOWEST = -6.0  # powers of ten


def draw_spectra(shares: Mapping[str, Sequence[float]], base: Sequence[float], out: Path) -> None:
    """Write a plot for each name: its shares of the variance, largest first, over a grey baseline.

    Horizontal: directions; vertical: from 1 to a millionth of the variance, logarithmic.
    """
    rows = -(-len(shares) // COLUMNS)
    size = COLUMNS * (WIDTH + ROOM), rows * (HEIGHT + ROOM)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" '
        f'width="{size[0]}" height="{size[1]}" font-family="sans-serif" font-size="11">',
        f'<rect width="{size[0]}" height="{size[1]}" fill="#fff"/>',
    ]
    for number, (name, own) in enumerate(shares.items()):
        left, top = number % COLUMNS * (WIDTH + ROOM) + 8, number // COLUMNS * (HEIGHT + ROOM) + 18
        lines.append(f'<text x="{left}" y="{top - 5}" fill="#333">{name}</text>')
        frame = f'x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}"'
        lines.append(f'<rect {frame} fill="none" stroke="#ddd"/>')
        lines.append(draw_line(base, left, top, "#bbb"))
        lines.append(draw_line(own, left, top, "#3949ab"))
    out.write_text("\n".join([*lines, "</svg>"]) + "\n", encoding="utf-8")


def draw_line(shares: Sequence[float], left: int, top: int, colour: str) -> str:
    """Return a line through the shares."""
    step = WIDTH / max(1, len(shares) - 1)
    points = [
        f"{left + place * step:.0f},{top + drop(share) * HEIGHT:.1f}"
        for place, share in enumerate(shares)
        if place % 4 == 0
    ]
    return (
        f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    )


def drop(share: float) -> float:
    """Return how far below 1 a share is, relative to the lowest."""
    return min(1.0, math.log10(max(share, 10**LOWEST)) / LOWEST)
