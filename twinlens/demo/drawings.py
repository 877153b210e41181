"""Shapes, letters, animals and things drawn by code: the demo without an emoji font.

Each drawing is a function of a pen, named after its subject.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterator

from twinlens.demo.picture import BLACK, WHITE, Pen, Picture, Point

COLOURS = {
    "red": "#dd2e44",
    "orange": "#f4900c",
    "yellow": "#fdcb58",
    "green": "#5c913b",
    "blue": "#3b88c3",
    "purple": "#aa8ed6",
    "brown": "#a0522d",
    "black": "#31373d",
}
_SIGNS = string.ascii_uppercase + string.digits
Draw = Callable[[Pen], object]
Paint = Callable[[Pen, str], object]


def count_drawings() -> int:
    """Return how many drawings there are."""
    return len(SHAPES) * len(COLOURS) + len(_SIGNS) + len(ANIMALS) + len(THINGS)


def draw_all(side: int) -> Iterator[Picture]:
    """Yield every drawing."""
    for shape, paint in SHAPES.items():
        for colour, value in COLOURS.items():
            pen = Pen(side)
            paint(pen, value)
            yield Picture(f"{colour} {shape}", "shape", pen.finish())
    for letter in _SIGNS:
        kind = "digit" if letter.isdigit() else "letter"
        yield Picture(f"{kind} {letter}", kind, Pen(side).letter(letter, BLACK).finish())
    for kind, drawings in (("animal", ANIMALS), ("thing", THINGS)):
        for name, draw in drawings.items():
            pen = Pen(side)
            draw(pen)
            yield Picture(name, kind, pen.finish())


def _heart(pen: Pen, colour: str) -> None:
    pen.disc(31, 35, 22, colour).disc(69, 35, 22, colour)
    pen.shape([(12, 46), (31, 35), (50, 30), (69, 35), (88, 46), (50, 92)], colour)


def _star(pen: Pen, colour: str) -> None:
    pen.shape(_spokes(5, 46, 18), colour)


def _arrow(pen: Pen, colour: str) -> None:
    points: list[Point] = [(8, 40), (55, 40), (55, 20), (92, 50), (55, 80), (55, 60), (8, 60)]
    pen.shape(points, colour)


def _cross(pen: Pen, colour: str) -> None:
    pen.shape([(14, 26), (26, 14), (86, 74), (74, 86)], colour)
    pen.shape([(86, 26), (74, 14), (14, 74), (26, 86)], colour)


def _spokes(count: int, outer: float, inner: float) -> list[Point]:
    """Return a star around the centre, with one spoke upwards."""
    points = []
    for i in range(2 * count):
        angle, radius = math.pi * i / count - math.pi / 2, inner if i % 2 else outer
        points.append((50 + radius * math.cos(angle), 52 + radius * math.sin(angle)))
    return points


SHAPES: dict[str, Paint] = {
    "circle": lambda pen, colour: pen.disc(50, 50, 42, colour),
    "square": lambda pen, colour: pen.box(10, 10, 90, 90, colour),
    "triangle": lambda pen, colour: pen.shape([(50, 10), (92, 86), (8, 86)], colour),
    "diamond": lambda pen, colour: pen.shape([(50, 6), (88, 50), (50, 94), (12, 50)], colour),
    "star": _star,
    "heart": _heart,
    "arrow": _arrow,
    "cross mark": _cross,
}


def _cat(pen: Pen) -> None:
    pen.mirrored([(16, 10), (14, 52), (46, 30)], "#f4b266").mirrored(
        [(21, 20), (20, 42), (36, 32)], "#f9d5d3"
    )
    pen.oval(50, 56, 38, 34, "#f4b266").eyes(50, 50, 15, 5)
    pen.shape([(45, 62), (55, 62), (50, 68)], "#e06a7a")
    for height in (62, 68):
        pen.line([(4, height - 4), (30, height)], BLACK, 1.5).line(
            [(96, height - 4), (70, height)], BLACK, 1.5
        )
    pen.arc(44, 70, 6, 0, 180, BLACK).arc(56, 70, 6, 0, 180, BLACK)


def _dog(pen: Pen) -> None:
    pen.oval(50, 52, 34, 38, "#d99e5c").oval(50, 68, 20, 18, "#f5e3c8")
    pen.oval(16, 44, 12, 27, "#8a5a2b").oval(84, 44, 12, 27, "#8a5a2b")
    pen.eyes(50, 44, 14, 5).oval(50, 60, 9, 6, BLACK).line([(50, 64), (50, 74)], BLACK, 2)
    pen.oval(50, 82, 7, 9, "#e75a70").arc(50, 68, 10, 20, 160, BLACK)


def _rabbit(pen: Pen) -> None:
    pen.oval(34, 26, 9, 25, "#c9c9cf").oval(66, 26, 9, 25, "#c9c9cf")
    pen.oval(34, 28, 4, 18, "#f4c2c8").oval(66, 28, 4, 18, "#f4c2c8")
    pen.oval(50, 66, 30, 29, "#c9c9cf").eyes(50, 60, 12).shape(
        [(46, 68), (54, 68), (50, 73)], "#e06a7a"
    )
    pen.box(45, 78, 49.5, 87, WHITE).box(50.5, 78, 55, 87, WHITE)


def _bear(pen: Pen) -> None:
    pen.disc(22, 26, 15, "#8a5a2b").disc(78, 26, 15, "#8a5a2b").disc(22, 26, 8, "#c98f5a").disc(
        78, 26, 8, "#c98f5a"
    )
    pen.disc(50, 54, 38, "#8a5a2b").oval(50, 68, 18, 15, "#dcb88f").eyes(50, 47, 15).oval(
        50, 62, 7, 5, BLACK
    )


def _pig(pen: Pen) -> None:
    pen.mirrored([(12, 14), (18, 44), (42, 24)], "#f08aa0").disc(50, 54, 38, "#f8b5c4")
    pen.oval(50, 64, 17, 13, "#f08aa0").disc(43, 64, 4, "#b8546a").disc(57, 64, 4, "#b8546a").eyes(
        50, 44, 16
    )


def _fish(pen: Pen) -> None:
    pen.shape([(66, 50), (96, 24), (96, 76)], "#2f7fb8").shape(
        [(38, 30), (56, 8), (62, 34)], "#2f7fb8"
    )
    pen.oval(42, 50, 36, 24, "#55acee").disc(24, 44, 5, WHITE).disc(23, 44, 3, BLACK).arc(
        34, 50, 14, -50, 50, "#2f7fb8"
    )


def _bird(pen: Pen) -> None:
    pen.shape([(60, 62), (96, 50), (92, 80)], "#2f7fb8").oval(50, 62, 30, 24, "#55acee").disc(
        30, 36, 20, "#55acee"
    )
    pen.shape([(12, 34), (-2, 42), (13, 46)], "#f4900c").disc(26, 32, 4, BLACK).oval(
        56, 60, 18, 12, "#2f7fb8"
    )
    pen.line([(44, 84), (44, 97)], "#f4900c").line([(56, 84), (56, 97)], "#f4900c")


def _snail(pen: Pen) -> None:
    pen.oval(50, 84, 44, 9, "#d7c27a").shape([(8, 84), (6, 48), (20, 48), (28, 84)], "#d7c27a")
    pen.disc(58, 54, 32, "#a0522d").disc(58, 54, 22, "#c98f5a").disc(58, 54, 12, "#a0522d")
    pen.line([(10, 50), (4, 30)], "#d7c27a").line([(17, 50), (20, 30)], "#d7c27a").disc(
        4, 28, 4, BLACK
    ).disc(20, 28, 4, BLACK)


def _ladybird(pen: Pen) -> None:
    pen.disc(50, 26, 18, BLACK).disc(50, 58, 36, "#dd2e44").line([(50, 22), (50, 94)], BLACK, 3)
    for x, y in ((32, 46), (68, 46), (30, 70), (70, 70)):
        pen.disc(x, y, 7, BLACK)


def _owl(pen: Pen) -> None:
    pen.mirrored([(20, 6), (20, 36), (44, 18)], "#8a5a2b").oval(50, 56, 34, 40, "#8a5a2b").oval(
        50, 72, 20, 20, "#dcb88f"
    )
    pen.disc(35, 38, 14, WHITE).disc(65, 38, 14, WHITE).eyes(50, 38, 15, 7).shape(
        [(45, 48), (55, 48), (50, 60)], "#f4900c"
    )


def _sun(pen: Pen) -> None:
    pen.shape(_spokes(12, 47, 32), "#fdcb58").disc(50, 52, 27, "#f4b400")


def _moon(pen: Pen) -> None:
    pen.disc(46, 50, 42, "#fdcb58").disc(66, 42, 36, WHITE)


def _cloud(pen: Pen) -> None:
    pen.disc(28, 58, 20, "#bdd3e2").disc(52, 44, 26, "#bdd3e2").disc(76, 58, 18, "#bdd3e2").box(
        28, 56, 76, 78, "#bdd3e2"
    )


def _house(pen: Pen) -> None:
    pen.box(18, 46, 82, 92, "#f5deb3").shape([(50, 8), (94, 48), (6, 48)], "#c0392b")
    pen.box(42, 64, 58, 92, "#7a4a21").box(24, 56, 36, 68, "#8ecae6").box(64, 56, 76, 68, "#8ecae6")


def _tree(pen: Pen) -> None:
    pen.box(43, 58, 57, 96, "#7a4a21").disc(50, 34, 28, "#5c913b").disc(30, 48, 20, "#5c913b").disc(
        70, 48, 20, "#5c913b"
    )


def _flower(pen: Pen) -> None:
    pen.line([(50, 50), (50, 98)], "#5c913b", 5)
    for i in range(6):
        pen.disc(
            50 + 20 * math.cos(i * math.pi / 3), 36 + 20 * math.sin(i * math.pi / 3), 13, "#e75a9a"
        )
    pen.disc(50, 36, 12, "#fdcb58")


def _car(pen: Pen) -> None:
    pen.shape([(20, 50), (34, 26), (68, 26), (84, 50)], "#dd2e44").box(6, 48, 94, 72, "#dd2e44")
    pen.shape([(28, 48), (38, 32), (49, 32), (49, 48)], "#bfe3f5").shape(
        [(53, 48), (53, 32), (65, 32), (75, 48)], "#bfe3f5"
    )
    for x in (28, 72):
        pen.disc(x, 74, 12, BLACK).disc(x, 74, 5, "#bdbdbd")


def _boat(pen: Pen) -> None:
    pen.line([(50, 8), (50, 70)], "#7a4a21", 4).shape(
        [(53, 12), (53, 62), (88, 62)], "#e8e8f0"
    ).shape([(47, 20), (47, 62), (18, 62)], "#55acee")
    pen.shape([(8, 68), (92, 68), (76, 90), (24, 90)], "#7a4a21")


def _umbrella(pen: Pen) -> None:
    pen.shape([(6, 52), (14, 28), (34, 12), (50, 8), (66, 12), (86, 28), (94, 52)], "#aa4ac4")
    pen.line([(50, 50), (50, 84)], BLACK, 4).arc(42, 84, 8, 0, 180, BLACK)


def _apple(pen: Pen) -> None:
    pen.disc(36, 58, 28, "#dd2e44").disc(64, 58, 28, "#dd2e44").oval(50, 66, 26, 28, "#dd2e44")
    pen.line([(50, 34), (56, 10)], "#7a4a21", 4).oval(68, 18, 13, 6, "#5c913b")


def _cup(pen: Pen) -> None:
    pen.disc(80, 52, 15, "#3b88c3").disc(80, 52, 8, WHITE).shape(
        [(16, 30), (78, 30), (72, 86), (22, 86)], "#3b88c3"
    )
    pen.oval(47, 30, 31, 7, "#6b3f1d")


def _ball(pen: Pen) -> None:
    pen.disc(50, 50, 42, "#f4900c").line([(50, 8), (50, 92)], BLACK, 2.5).line(
        [(8, 50), (92, 50)], BLACK, 2.5
    )
    pen.arc(8, 50, 30, -62, 62, BLACK).arc(92, 50, 30, 118, 242, BLACK)


ANIMALS: dict[str, Draw] = {
    "cat": _cat,
    "dog": _dog,
    "rabbit": _rabbit,
    "bear": _bear,
    "pig": _pig,
    "fish": _fish,
    "bird": _bird,
    "snail": _snail,
    "ladybird": _ladybird,
    "owl": _owl,
}
THINGS: dict[str, Draw] = {
    "sun": _sun,
    "crescent moon": _moon,
    "cloud": _cloud,
    "house": _house,
    "tree": _tree,
    "flower": _flower,
    "car": _car,
    "sailboat": _boat,
    "umbrella": _umbrella,
    "red apple": _apple,
    "cup of coffee": _cup,
    "basketball": _ball,
}
