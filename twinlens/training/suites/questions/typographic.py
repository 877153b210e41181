"""Typographic attacks: with another name written on it, is a picture called by thing or word?

The same pictures without the word are the control.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from twinlens.demo.drawings import ANIMALS, THINGS
from twinlens.demo.picture import Pen
from twinlens.training.suites.material import Material, decode_picture
from twinlens.training.suites.sheet import Sheet

SIDE = 224
MOST = 400  # pictures of the data
DRAWN_WORDS = 8  # words written on each drawing, if there are no labelled data
CONTROL = "without the word"
TEXT, WIDEST = SIDE / 6, SIDE * 0.94  # height and greatest width of a word, in pixels
LINE = 0.8  # of the picture's height: the middle of the word


def write_typographic(material: Material, templates: Sequence[str], seed: int) -> Sheet:
    """Ask which of two names is the picture's, with the other one written on it."""
    sheet, rng = Sheet(), np.random.default_rng(seed)
    labelled = [(e.label, e) for e in material.exhibits if e.label]
    if "labels" in material.has:
        names = sorted({label for label, _ in labelled})
        chosen = sorted(rng.permutation(len(labelled))[:MOST])
        for label, exhibit in [labelled[place] for place in chosen]:
            picture = decode_picture(exhibit.picture, SIDE)
            _ask(sheet, picture, label, _draw_others(label, names, 1, rng), exhibit.key)
        return sheet
    drawings = {**ANIMALS, **THINGS}
    for name, draw in drawings.items():
        pen = Pen(SIDE)
        draw(pen)
        others = _draw_others(name, list(drawings), DRAWN_WORDS, rng)
        _ask(sheet, pen.finish(), name, others, name)
    return sheet


def write_on(picture: Image.Image, word: str) -> Image.Image:
    """Return the picture with a word across its lower part, black on a white strip."""
    shown = picture.resize((SIDE, round(SIDE * picture.height / picture.width)))
    draw = ImageDraw.Draw(shown)
    font = ImageFont.load_default(size=TEXT)
    width = draw.textlength(word, font)
    if width > WIDEST:
        font = ImageFont.load_default(size=TEXT * WIDEST / width)
    middle = round(shown.height * LINE)
    draw.rectangle((0, middle - SIDE // 10, SIDE, middle + SIDE // 10), fill="white")
    draw.text((SIDE / 2, middle), word, "black", font, anchor="mm")
    return shown


def _ask(
    sheet: Sheet, picture: Image.Image, name: str, others: Sequence[str], cluster: str
) -> None:
    plain = sheet.add_picture(picture)
    for other in others:
        written = sheet.add_picture(write_on(picture, other))
        sheet.add_pair(written, name, other, cluster, "with the word")
        sheet.add_choice(plain, name, [other], cluster, CONTROL, control=True)


def _draw_others(
    name: str, names: Sequence[str], count: int, rng: np.random.Generator
) -> list[str]:
    others = [other for other in names if other != name]
    return [str(other) for other in rng.choice(others, min(count, len(others)), replace=False)]
