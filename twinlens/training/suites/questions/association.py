"""Association: a thing in an unusual colour; does the encoder follow the pixels or the name?

Each picture is asked about twice: in the given colour, and in its usual colour as a control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageColor, ImageOps

from twinlens.demo.drawings import ANIMALS, COLOURS, SHAPES, THINGS
from twinlens.demo.picture import Pen
from twinlens.training.data.word_kinds import WORD
from twinlens.training.suites.material import Material, decode_picture
from twinlens.training.suites.sheet import Sheet

SIDE = 192
MOST = 200  # pictures of the data
CONTROL = "in its usual colour"
# The usual colour of things in most pictures and texts, by everyday knowledge.
USUAL = {
    "lemon": "yellow", "banana": "yellow", "sun": "yellow", "moon": "yellow", "cheese": "yellow",
    "corn": "yellow", "pineapple": "yellow", "chick": "yellow", "tomato": "red",
    "strawberry": "red", "cherries": "red", "apple": "red", "ladybird": "red", "lobster": "red",
    "heart": "red",
    "fire truck": "red", "carrot": "orange", "tangerine": "orange", "pumpkin": "orange",
    "basketball": "orange", "tree": "green", "frog": "green", "broccoli": "green",
    "cucumber": "green", "cactus": "green", "crocodile": "green", "leaf": "green",
    "avocado": "green", "grapes": "purple", "eggplant": "purple", "bear": "brown",
    "chestnut": "brown", "owl": "brown", "peanut": "brown", "whale": "blue", "dolphin": "blue",
    "jeans": "blue",
}  # fmt: skip
_DRAWN = {"moon": "crescent moon", "apple": "red apple"}
_TINTS = tuple(colour for colour in COLOURS if colour not in ("black", "brown"))


def write_association(material: Material, templates: Sequence[str], seed: int) -> Sheet:
    """Ask about drawn things, and about things in the data whose names imply their colour."""
    sheet, rng = Sheet(), np.random.default_rng(seed)
    for thing, picture, cluster in [*_draw_things(), *_find_things(material)]:
        usual = USUAL[thing]
        tints = [colour for colour in _TINTS if colour != usual]
        drawn = rng.permutation(tints) if cluster.startswith("drawn") else rng.choice(tints, 1)
        for tint in map(str, drawn):
            number = sheet.add_picture(tint_picture(picture, tint))
            sheet.add_pair(number, _name(tint, thing), _name(usual, thing), cluster, usual)
            own = sheet.add_picture(tint_picture(picture, usual))
            sheet.add_choice(
                own, _name(usual, thing), [_name(tint, thing)], cluster, CONTROL, control=True
            )
    return sheet


def tint_picture(picture: Image.Image, colour: str) -> Image.Image:
    """Return the picture in shades of one colour; white stays white and black stays black."""
    value = ImageColor.getrgb(COLOURS.get(colour, colour))
    return ImageOps.colorize(ImageOps.grayscale(picture), "black", "white", mid=value)


def find_thing(names: Sequence[str]) -> str | None:
    """Return the thing of known colour in the names, if there is exactly one."""
    words = {match.group().lower() for name in names for match in WORD.finditer(name)}
    text = " ".join(names).lower()
    found = [thing for thing in USUAL if (thing in text if " " in thing else thing in words)]
    return found[0] if len(found) == 1 else None


def _name(colour: str, thing: str) -> str:
    article = "an" if colour == "orange" else "a"
    return f"{colour} {thing}" if thing.endswith("s") else f"{article} {colour} {thing}"


def _draw_things() -> Iterator[tuple[str, Image.Image, str]]:
    """Yield the drawings of things with a usual colour, and a heart."""
    drawings: dict[str, Callable[[Pen], object]] = {**ANIMALS, **THINGS}
    drawings["heart"] = lambda pen: SHAPES["heart"](pen, COLOURS["red"])
    for thing in USUAL:
        draw = drawings.get(_DRAWN.get(thing, thing))
        if draw is not None:
            pen = Pen(SIDE)
            draw(pen)
            yield thing, pen.finish(), f"drawn {thing}"


def _find_things(material: Material) -> Iterator[tuple[str, Image.Image, str]]:
    found = 0
    for exhibit in material.exhibits:
        thing = find_thing(exhibit.names)
        if thing is not None and found < MOST:
            found += 1
            yield thing, decode_picture(exhibit.picture), exhibit.key
