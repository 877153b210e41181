"""Rules that make captions false by one change of words: swap, replace or add.

They change objects, attributes and relations. What must stay true: a rule returns nothing if it
cannot tell that the changed caption is grammatical.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from twinlens.training.data.word_kinds import COLOURS, NUMBERS, OPENERS
from twinlens.training.suites.questions.wording import OPPOSITES, Caption, mend_articles

# The longest first, so that `on top of` is not read as `on`.
RELATIONS = {
    "to the left of": "to the right of", "to the right of": "to the left of",
    "in front of": "behind", "on top of": "underneath", "next to": "far from",
    "underneath": "on top of", "beneath": "above", "outside": "inside", "inside": "outside",
    "without": "with", "behind": "in front of", "beside": "far from", "above": "below",
    "below": "above", "under": "on", "over": "under", "near": "far from", "with": "without",
    "into": "out of", "onto": "off", "off": "onto", "on": "under", "up": "down", "down": "up",
}  # fmt: skip
# Relations whose meaning changes when both objects swap; `next to` and `and` are symmetric.
DIRECTED = frozenset((
    "on", "under", "above", "below", "behind", "inside", "in", "over", "into", "onto", "from",
    "holding", "riding", "wearing", "eating", "carrying", "pulling", "chasing", "watching",
    "front", "off", "beneath", "underneath", "against", "at",
))  # fmt: skip
SYMMETRIC = frozenset(("and", "or", "&"))
ADDED_COLOURS = ("purple", "pink", "orange", "gold")  # rarely true of objects without an attribute
_RELATION = re.compile(rf"\b({'|'.join(RELATIONS)})\b(?= +(?:{'|'.join(sorted(OPENERS))})\b)")


def swap_objects(caption: Caption) -> str | None:
    """Swap two objects of the same number: `a dog on a bed` becomes `a bed on a dog`."""
    places, kind_of, words = caption.objects(), caption.nouns.kind_of, caption.words
    for first, second in pairwise(places):
        one, other = words[first].text, words[second].text
        between = caption.between(first, second)
        alike = kind_of(one) == kind_of(other) and one != other
        if alike and between & DIRECTED and not between & SYMMETRIC:
            return caption.rewrite({first: other, second: one})
    return None


def swap_attributes(caption: Caption) -> str | None:
    """Swap the colours, or the numbers, of two things."""
    for kind in (COLOURS, NUMBERS - {"one"}):
        places = caption.among(kind)
        for first, second in pairwise(places):
            one, other = caption.words[first].text, caption.words[second].text
            named = caption.between(first, second) - SYMMETRIC - kind
            if one != other and named:
                return caption.rewrite({first: other, second: one})
    return None


def replace_object(caption: Caption) -> str | None:
    """Replace an object by one that no caption of the picture names."""
    places = caption.objects()
    if not places:
        return None
    place = caption.choose(places)
    new = caption.draw(caption.nouns.kind_of(caption.words[place].text))
    return None if new is None else caption.rewrite({place: new})


def replace_attribute(caption: Caption) -> str | None:
    """Replace a colour, number or size by another."""
    for kind in (COLOURS, NUMBERS - {"one"}):
        places = caption.among(kind)
        new = caption.draw(sorted(kind)) if places else None
        if new is not None:
            return caption.rewrite({caption.choose(places): new})
    places = [
        place
        for place in caption.among(OPPOSITES)
        if OPPOSITES[caption.words[place].text] not in caption.seen
    ]
    if not places:
        return None
    place = caption.choose(places)
    return caption.rewrite({place: OPPOSITES[caption.words[place].text]})


def replace_relation(caption: Caption) -> str | None:
    """Replace a relation by its opposite: `on the table`, `under the table`."""
    matches = list(_RELATION.finditer(caption.text))
    if not matches:
        return None
    match = matches[caption.choose(range(len(matches)))]
    return caption.text[: match.start()] + RELATIONS[match[1]] + caption.text[match.end() :]


def add_object(caption: Caption) -> str | None:
    """Add an object that no caption of the picture names, after an object at the end."""
    if not caption.words or len(caption.words) - 1 not in caption.objects():
        return None
    new = caption.draw(caption.nouns.singular)
    stop = caption.words[-1].stop
    if new is None:
        return None
    return mend_articles(f"{caption.text[:stop]} and a {new}{caption.text[stop:]}")


def add_attribute(caption: Caption) -> str | None:
    """Add a colour to an object that has none in the caption."""
    places = [p for p in caption.objects() if caption.words[p - 1].text in OPENERS]
    new = caption.draw(ADDED_COLOURS) if places else None
    if new is None:
        return None
    place = caption.choose(places)
    return caption.rewrite({place: f"{new} {caption.words[place].text}"})


RULES: dict[str, Callable[[Caption], str | None]] = {
    "swap object": swap_objects,
    "swap attribute": swap_attributes,
    "replace object": replace_object,
    "replace attribute": replace_attribute,
    "replace relation": replace_relation,
    "add object": add_object,
    "add attribute": add_attribute,
}
