"""Draw the pictures that the README uses; run it to remake them beside this file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = 256
_SCALE = 4  # drawn larger, then shrunk: smooth edges


def draw_heart(pen: ImageDraw.ImageDraw, side: int) -> None:
    """Draw a red heart, along the curve of that name."""
    points = []
    for step in range(400):
        t = math.tau * step / 400
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((side * (0.5 + x / 38), side * (0.46 - y / 38)))
    pen.polygon(points, "#dd2e44")


def draw_sun(pen: ImageDraw.ImageDraw, side: int) -> None:
    """Draw a yellow sun with eight rays."""
    half, inner, outer = side / 2, side * 0.30, side * 0.44
    for ray in range(8):
        angle = math.tau * ray / 8
        points = [
            (half + math.cos(angle + turn) * length, half + math.sin(angle + turn) * length)
            for turn, length in ((-0.22, inner), (0.0, outer), (0.22, inner))
        ]
        pen.polygon(points, "#ffac33")
    radius = side * 0.26
    pen.ellipse([half - radius, half - radius, half + radius, half + radius], "#ffcc4d")


def draw_leaf(pen: ImageDraw.ImageDraw, side: int) -> None:
    """Draw a green leaf with its vein."""
    box = [side * 0.14, -side * 0.18, side * 1.2, side * 0.88]
    other = [-side * 0.2, side * 0.12, side * 0.86, side * 1.18]
    mask_a, mask_b = Image.new("1", (side, side)), Image.new("1", (side, side))
    ImageDraw.Draw(mask_a).ellipse(box, 1)
    ImageDraw.Draw(mask_b).ellipse(other, 1)
    both = Image.composite(mask_a, Image.new("1", (side, side)), mask_b)
    pen.bitmap((0, 0), both, "#5c913b")
    pen.line([side * 0.1, side * 0.9, side * 0.72, side * 0.28], "#3e721d", side // 40)


PICTURES: dict[str, Callable[[ImageDraw.ImageDraw, int], None]] = {
    "heart": draw_heart,
    "sun": draw_sun,
    "leaf": draw_leaf,
}


def draw_picture(name: str) -> Image.Image:
    """Return one picture on white, 256 pixels a side."""
    canvas = Image.new("RGB", (SIDE * _SCALE, SIDE * _SCALE), "white")
    PICTURES[name](ImageDraw.Draw(canvas), SIDE * _SCALE)
    return canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    for name in PICTURES:
        draw_picture(name).save(Path(__file__).parent / f"{name}.png", optimize=True)
