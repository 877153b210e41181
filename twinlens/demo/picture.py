"""A named image of the demo, and the pen that draws one in a square from 0 to 100."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]
_FINE = 4  # drawn this many times larger, then reduced, for smooth edges
WHITE, BLACK = "#ffffff", "#1a1a1a"


@dataclass(frozen=True)
class Picture:
    """One image with its name (`red heart`), kind (`shape`) and, for emoji, character."""

    name: str
    kind: str
    image: Image.Image
    character: str = ""


class Pen:
    """Draws on white in a square whose corners are (0, 0) and (100, 100)."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._image = Image.new("RGB", (side * _FINE, side * _FINE), WHITE)
        self._draw = ImageDraw.Draw(self._image)
        self._unit = side * _FINE / 100

    def disc(self, x: float, y: float, radius: float, colour: str) -> Pen:
        """Draw a disc."""
        return self.oval(x, y, radius, radius, colour)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: str) -> Pen:
        """Draw an ellipse around (x, y)."""
        self._draw.ellipse(self._scale((x - rx, y - ry), (x + rx, y + ry)), fill=colour)
        return self

    def box(self, left: float, top: float, right: float, bottom: float, colour: str) -> Pen:
        """Draw a rectangle."""
        self._draw.rectangle(self._scale((left, top), (right, bottom)), fill=colour)
        return self

    def shape(self, points: Sequence[Point], colour: str) -> Pen:
        """Draw a polygon."""
        self._draw.polygon(self._scale(*points), fill=colour)
        return self

    def line(self, points: Sequence[Point], colour: str, width: float = 3) -> Pen:
        """Draw a line with round joints."""
        thick = round(width * self._unit)
        self._draw.line(self._scale(*points), fill=colour, width=thick, joint="curve")
        return self

    def arc(self, x: float, y: float, radius: float, start: float, end: float, colour: str) -> Pen:
        """Draw an arc; angles in degrees, clockwise from three o'clock."""
        corners = self._scale((x - radius, y - radius), (x + radius, y + radius))
        self._draw.arc(corners, start, end, fill=colour, width=round(3 * self._unit))
        return self

    def eyes(self, x: float, y: float, apart: float, size: float = 4) -> Pen:
        """Draw two dark eyes around (x, y)."""
        self.disc(x - apart, y, size, BLACK)
        return self.disc(x + apart, y, size, BLACK)

    def mirrored(self, points: Sequence[Point], colour: str) -> Pen:
        """Draw a polygon and its mirror image: ears, wings."""
        self.shape(points, colour)
        return self.shape([(100 - x, y) for x, y in points], colour)

    def letter(self, text: str, colour: str) -> Pen:
        """Draw a letter or digit that fills the square."""
        font = ImageFont.load_default(size=80 * self._unit)
        self._draw.text((50 * self._unit, 50 * self._unit), text, colour, font, anchor="mm")
        return self

    def finish(self) -> Image.Image:
        """Return the picture."""
        return self._image.resize((self._side, self._side), Image.Resampling.LANCZOS)

    def _scale(self, *points: Point) -> list[Point]:
        return [(x * self._unit, y * self._unit) for x, y in points]
