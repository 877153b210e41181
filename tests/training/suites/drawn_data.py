"""Drawn data of which every suite can be asked: scenes of shapes, and things that vary.

What must stay true: test pictures are drawn afresh, of the same things in other places, sizes and
colours; nothing comes from outside the package.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from twinlens.demo.drawings import ANIMALS, COLOURS, THINGS
from twinlens.demo.picture import Pen
from twinlens.training.suites.questions.association import tint_picture
from twinlens.training.suites.questions.relations import GROUPS
from twinlens.training.suites.questions.typographic import write_on

SIDE, STORED = 128, 32
GERMAN = {
    "cat": "Katze", "dog": "Hund", "rabbit": "Hase", "bear": "Bär", "pig": "Schwein",
    "fish": "Fisch", "bird": "Vogel", "snail": "Schnecke", "ladybird": "Marienkäfer",
    "owl": "Eule", "sun": "Sonne", "crescent moon": "Mond", "cloud": "Wolke", "house": "Haus",
    "tree": "Baum", "flower": "Blume", "car": "Auto", "sailboat": "Segelboot",
    "umbrella": "Regenschirm", "red apple": "Apfel", "cup of coffee": "Kaffeetasse",
    "basketball": "Basketball",
}  # fmt: skip
_PLAIN = {"crescent moon": "moon", "red apple": "apple"}
DRAWINGS = {**ANIMALS, **THINGS}
Row = dict[str, object]


def write_drawn_data(folder: Path, scenes: int, things: int, seed: int) -> None:
    """Write `train.zip`, and `scenes.zip` and `things.zip` to ask about, a fifth as large."""
    rng = np.random.default_rng(seed)
    _write(
        folder / "train.zip",
        [_draw_scene(rng, number) for number in range(scenes)]
        + [_draw_lesson(rng, number) for number in range(things)],
    )
    _write(folder / "scenes.zip", [_draw_scene(rng, number) for number in range(scenes // 5)])
    _write(folder / "things.zip", [_draw_thing(rng, number) for number in range(things // 5)])


def _draw_scene(rng: np.random.Generator, number: int) -> tuple[Image.Image, Row]:
    scene, caption, _ = GROUPS[list(GROUPS)[number % len(GROUPS)]](rng)
    return scene, {"captions": [caption]}


def _draw_thing(rng: np.random.Generator, number: int) -> tuple[Image.Image, Row]:
    name = list(DRAWINGS)[number % len(DRAWINGS)]
    pen = Pen(SIDE)
    DRAWINGS[name](pen)
    side = int(rng.integers(SIDE * 3 // 5, SIDE + 1))
    turned = pen.finish().resize((side, side)).rotate(float(rng.normal(0, 8)), fillcolor="white")
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    left, top = (int(place) for place in rng.integers(0, SIDE - side + 1, 2))
    picture.paste(turned, (left, top))
    return picture, {"cls": name, "captions": [name]}


def _draw_lesson(rng: np.random.Generator, number: int) -> tuple[Image.Image, Row]:
    """Return a thing to learn from: plain, with a word on it, or in one colour."""
    picture, row = _draw_thing(rng, number)
    name = str(row["cls"])
    kind = number // len(DRAWINGS) % 3
    if kind == 1:
        picture = write_on(picture, str(rng.choice(list(DRAWINGS))))
    if kind == 2:
        colour = str(rng.choice(list(COLOURS)))
        thing = _PLAIN.get(name, name)
        article = "an" if colour == "orange" else "a"
        return tint_picture(picture, colour), {"captions": [f"{article} {colour} {thing}"]}
    return picture, {"captions": [name, f"a photo of a {name}", GERMAN[name]]}


def _write(path: Path, drawn: list[tuple[Image.Image, Row]]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        rows = []
        for number, (picture, row) in enumerate(drawn):
            buffer = io.BytesIO()
            picture.resize((STORED, STORED)).save(buffer, "PNG")
            archive.writestr(f"{number:05}.png", buffer.getvalue())
            rows.append(json.dumps({"file": f"{number:05}.png", **row}))
        archive.writestr("index.jsonl", "\n".join(rows))
