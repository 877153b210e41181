"""Relations: newly drawn scenes whose descriptions differ only in arrangement.

Data may add sentences that are true of some pictures and false of others (as in NLVR): of which of
two pictures is the sentence true? What must stay true: both descriptions of a scene name the same
things, so that a bag of words answers at chance; only counts differ in their numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops

from twinlens.demo.drawings import COLOURS, SHAPES
from twinlens.demo.picture import WHITE, Pen
from twinlens.training.suites.material import Material
from twinlens.training.suites.sheet import Question, Sheet

SIDE = 192
SCENES = 80  # of each group
SENTENCES = "sentences"
COUNTS = ("one", "two", "three", "four")
Spot = tuple[int, int, int]  # left, top, side

_SHAPES = tuple(shape for shape in SHAPES if shape != "arrow")  # shape whose mirror image differs
_HALF, _BIG, _SMALL = SIDE * 2 // 5, SIDE * 3 // 5, SIDE // 4
_LEFT, _RIGHT = (
    (SIDE // 16, (SIDE - _HALF) // 2, _HALF),
    (SIDE // 2 + 4, (SIDE - _HALF) // 2, _HALF),
)
_TOP, _BOTTOM = (_LEFT[1], _LEFT[0], _HALF), (_LEFT[1], _RIGHT[0], _HALF)
_SIZES: tuple[Spot, Spot] = (
    (4, 4, _BIG),
    (SIDE - _SMALL - 4, SIDE - _SMALL - 4, _SMALL),
)
_PLACES = tuple((x, y, SIDE * 3 // 8) for y in (8, SIDE // 2 + 8) for x in (8, SIDE // 2 + 8))


def write_relations(material: Material, templates: Sequence[str], seed: int) -> Sheet:
    """Ask about sides, above and below, counts, colours and sizes; then about sentences."""
    sheet, rng = Sheet(), np.random.default_rng(seed)
    for number in range(SCENES):
        for group, draw in GROUPS.items():
            scene, true, false = draw(rng)
            picture = sheet.add_picture(scene)
            sheet.add_choice(picture, true, false, f"{group} {number}", group)
    add_sentences(sheet, material)
    return sheet


def add_sentences(sheet: Sheet, material: Material) -> None:
    """Ask, for each sentence and pair of pictures, of which one it is true."""
    true, false = defaultdict(list), defaultdict(list)
    for exhibit in material.exhibits:
        for text in exhibit.captions:
            true[text].append(exhibit)
        for text in exhibit.negatives:
            false[text].append(exhibit)
    pictures: dict[str, int] = {}
    for text in sorted(true.keys() & false.keys()):
        for pair in zip(true[text], false[text], strict=False):
            for exhibit in pair:
                if exhibit.key not in pictures:
                    pictures[exhibit.key] = sheet.add_picture(exhibit.picture)
            numbers = np.array([pictures[exhibit.key] for exhibit in pair], np.int64)
            right = frozenset([int(numbers[0])])
            query = sheet.add_text(text)
            sheet.questions.append(
                Question(query, numbers, right, text, SENTENCES, asks="text", answers="picture")
            )


def draw_scene(things: Sequence[tuple[str, str, Spot]]) -> Image.Image:
    """Draw shapes (colour, shape, position) on white."""
    scene = Image.new("RGB", (SIDE, SIDE), WHITE)
    for colour, shape, (left, top, side) in things:
        pen = Pen(side)
        SHAPES[shape](pen, COLOURS[colour])
        layer = Image.new("RGB", (SIDE, SIDE), WHITE)
        layer.paste(pen.finish(), (left, top))
        scene = ImageChops.darker(scene, layer)
    return scene


Scene = tuple[Image.Image, str, list[str]]
Twin = tuple[Image.Image, str]


def _two(rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Return two colours and two shapes, all different."""
    return (
        [str(colour) for colour in rng.choice(list(COLOURS), 2, replace=False)],
        [str(shape) for shape in rng.choice(_SHAPES, 2, replace=False)],
    )


def _name(colour: str, shape: str) -> str:
    return f"{'an' if colour == 'orange' else 'a'} {colour} {shape}"


def _side_by_side(rng: np.random.Generator) -> Scene:
    (one, other), (shape, second) = _two(rng)
    first, last = _name(one, shape), _name(other, second)
    scene = draw_scene([(one, shape, _LEFT), (other, second, _RIGHT)])
    # Asked about either thing, so that no word order is always right.
    if rng.random() < 0.5:
        return scene, f"{first} to the left of {last}", [f"{last} to the left of {first}"]
    return scene, f"{last} to the right of {first}", [f"{first} to the right of {last}"]


def _stacked(rng: np.random.Generator) -> Scene:
    (one, other), (shape, second) = _two(rng)
    first, last = _name(one, shape), _name(other, second)
    scene = draw_scene([(one, shape, _TOP), (other, second, _BOTTOM)])
    if rng.random() < 0.5:
        return scene, f"{first} above {last}", [f"{last} above {first}"]
    return scene, f"{last} below {first}", [f"{first} below {last}"]


def _counted(rng: np.random.Generator) -> Scene:
    (colour, _), (shape, _) = _two(rng)
    count = int(rng.integers(1, len(COUNTS) + 1))
    places = [_PLACES[place] for place in rng.permutation(len(_PLACES))[:count]]
    texts = [f"{word} {colour} {shape}{'s' if i else ''}" for i, word in enumerate(COUNTS)]
    true = texts.pop(count - 1)
    return draw_scene([(colour, shape, place) for place in places]), true, texts


def _coloured(rng: np.random.Generator) -> Scene:
    (one, other), (shape, second) = _two(rng)
    boxes = [_LEFT, _RIGHT] if rng.random() < 0.5 else [_RIGHT, _LEFT]
    scene = draw_scene([(one, shape, boxes[0]), (other, second, boxes[1])])
    true = f"{_name(one, shape)} and {_name(other, second)}"
    return scene, true, [f"{_name(other, shape)} and {_name(one, second)}"]


def _sized(rng: np.random.Generator) -> Scene:
    (one, other), (shape, second) = _two(rng)
    big, small = f"{one} {shape}", f"{other} {second}"
    scene = draw_scene([(one, shape, _SIZES[0]), (other, second, _SIZES[1])])
    if rng.random() < 0.5:
        return scene, f"a big {big} and a small {small}", [f"a small {big} and a big {small}"]
    return scene, f"a small {small} and a big {big}", [f"a big {small} and a small {big}"]


def draw_twins(group: str, rng: np.random.Generator) -> tuple[Twin, Twin]:
    """Return two scenes of the same two things, with captions of the same words."""
    (one, other), (shape, second) = _two(rng)
    boxes, sentence = TWINS[group]
    if group == "colours":
        first, last = ((one, shape), (other, second)), ((other, shape), (one, second))
    else:
        first = ((one, shape), (other, second))
        last = first[::-1]
    both = []
    for things in (first, last):
        scene = draw_scene([(*thing, box) for thing, box in zip(things, boxes, strict=True)])
        bare = sentence.startswith("a big")
        names = [" ".join(thing) if bare else _name(*thing) for thing in things]
        both.append((scene, sentence.format(*names)))
    return both[0], both[1]


# Positions of the two things in a pair of scenes, and their captions.
TWINS: dict[str, tuple[tuple[Spot, Spot], str]] = {
    "left and right": ((_LEFT, _RIGHT), "{} to the left of {}"),
    "above and below": ((_TOP, _BOTTOM), "{} above {}"),
    "colours": ((_LEFT, _RIGHT), "{} and {}"),
    "sizes": (_SIZES, "a big {} and a small {}"),
}

GROUPS = {
    "left and right": _side_by_side,
    "above and below": _stacked,
    "counts": _counted,
    "colours": _coloured,
    "sizes": _sized,
}
