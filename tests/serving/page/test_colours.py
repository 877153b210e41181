"""The page's colours: text has a contrast of 4.5 to its background, edges and bars 3."""

from __future__ import annotations

import re

import pytest

from twinlens.serving.routes.page import read_page

Colour = tuple[float, float, float]
CSS = read_page()["style.css"].content.decode()
TEXT = [
    *[(ink, ground) for ink in ("ink", "soft", "strong", "bad") for ground in ("ground", "card")],
    ("on-strong", "strong"),
    ("ink", "fill"),
]
SHAPES = [("edge", "ground"), ("edge", "card"), ("strong", "fill"), ("strong", "card")]
THEMES = ["light", "dark"]
MOST_HEAT = 0.53  # the strongest share of --heat under a number of the heat map (compare.js)


def read_theme(name: str) -> dict[str, str]:
    """Return the variables of a theme; the dark one inherits from the light one."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    found = [dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in blocks]
    assert len(found) == 2
    return found[0] if name == "light" else found[0] | found[1]


def parse(value: str) -> Colour:
    if value.startswith("#"):
        red, green, blue = (int(value[i : i + 2], 16) / 255 for i in (1, 3, 5))
    else:
        red, green, blue = (int(part) / 255 for part in value.split())
    return red, green, blue


def luminance(colour: Colour) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_the_guidelines_define() -> None:
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)
    assert contrast(parse("#767676"), (1, 1, 1)) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("ink", "ground"), TEXT)
def test_text_can_be_read(theme: str, ink: str, ground: str) -> None:
    colours = read_theme(theme)
    assert contrast(parse(colours[ink]), parse(colours[ground])) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("shape", "ground"), SHAPES)
def test_shapes_can_be_distinguished_from_their_background(
    theme: str, shape: str, ground: str
) -> None:
    colours = read_theme(theme)
    assert contrast(parse(colours[shape]), parse(colours[ground])) >= 3


@pytest.mark.parametrize("theme", THEMES)
def test_the_numbers_of_the_heat_map_can_be_read_at_full_heat(theme: str) -> None:
    colours = {name: parse(read_theme(theme)[name]) for name in ("ink", "ground", "heat")}
    pairs = zip(colours["heat"], colours["ground"], strict=True)
    red, green, blue = (MOST_HEAT * a + (1 - MOST_HEAT) * b for a, b in pairs)
    assert contrast(colours["ink"], (red, green, blue)) >= 4.5


def test_every_text_colour_is_defined_by_the_themes() -> None:
    """The tests above cover all text; the one exception has a white image as background."""
    literal = set(re.findall(r"(?<![\w-])color: (?!var\(|inherit)([^;]+);", CSS))
    assert literal == {"#333"}


def test_animations_respect_reduced_motion() -> None:
    for rule in re.finditer(r"(transition|animation|scroll-behavior)\s*:", CSS):
        before = CSS[: rule.start()]
        assert before.rfind("prefers-reduced-motion: no-preference") > before.rfind("\n")
