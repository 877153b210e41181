"""Named sets of prompt templates, written for this project. `{}` stands for the class name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from twinlens.errors import InputError

_PHOTO = (
    "a photo of a {}.",
    "a clear photo of one {}.",
    "a close view of a {}.",
    "a {} seen from some way off.",
    "a {} in daylight.",
    "a {} indoors.",
    "a snapshot with a {} in it.",
    "what a {} looks like.",
)
_ARTWORK = (
    "a drawing of a {}.",
    "a painting of a {}.",
    "a sketch of a {}.",
    "a cartoon {}.",
    "a print that shows a {}.",
    "a sculpture of a {}.",
    "an illustration with a {}.",
    "a {} as an artist sees it.",
)
_ICON = (
    "an icon of a {}.",
    "a {} icon.",
    "an emoji of a {}.",
    "a flat symbol for {}.",
    "a small pictogram of a {}.",
    "a line icon that means {}.",
    "a sign with a {} on it.",
    "{}",
)
_PRODUCT = (
    "a product photo of a {}.",
    "a {} on a white background.",
    "a {} for sale.",
    "a catalogue picture of a {}.",
    "a used {}.",
    "a brand new {}.",
    "the front of a {}.",
    "a {} laid out flat.",
)
_MEDIA = (
    "photo",
    "picture",
    "drawing",
    "painting",
    "snapshot",
    "sketch",
    "close-up",
    "rendering",
    "scan",
    "view",
)
_PATTERNS = (
    "a {medium} of a {{}}.",
    "a {medium} of the {{}}.",
    "a {medium} of many {{}}.",
    "a bright {medium} of a {{}}.",
    "a dark {medium} of a {{}}.",
    "a blurred {medium} of a {{}}.",
    "a small {medium} of a {{}}.",
    "a good {medium} of a {{}}.",
)

SETS: dict[str, tuple[str, ...]] = {
    "plain": ("{}",),
    "photo": _PHOTO,
    "artwork": _ARTWORK,
    "icon": _ICON,
    "product": _PRODUCT,
    "broad": tuple(manner.format(medium=m) for m, manner in product(_MEDIA, _PATTERNS)),
}


def choose_templates(
    given: str | Sequence[str] | None, default: Sequence[str], *, field: str = "templates"
) -> tuple[str, ...]:
    """Return the templates that `given` names or lists; None means the bundle's default."""
    if given is None:
        return tuple(default)
    if isinstance(given, str):
        if "{}" in given:
            given = (given,)
        elif given in SETS:
            return SETS[given]
        else:
            raise InputError(
                f"{field} {given!r} is neither a template with {{}} nor a set; "
                f"sets are: {', '.join(SETS)}",
                field=field,
            )
    for i, template in enumerate(given):
        if template.count("{}") != 1:
            raise InputError(
                f"{field}[{i}] {template[:80]!r} must hold {{}} exactly once", field=field
            )
    return tuple(given)
