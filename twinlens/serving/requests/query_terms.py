"""The terms of a query and the items of a collection: a text, an image or a vector each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinlens.errors import InputError
from twinlens.serving.openapi.request_shapes import request_object
from twinlens.serving.openapi.schemas import (
    IMAGE,
    NULL,
    NUMBER,
    STRING,
    TEXT,
    Schema,
    array_of,
    either,
    means,
)
from twinlens.serving.requests.fields import Fields, check_text
from twinlens.serving.requests.items import InputItem

_MOST_WEIGHT = 100.0
_MOST_NUMBERS = 65_536
VECTOR: Schema = means(
    array_of(NUMBER, minItems=1), "An embedding of this collection's model, of any scale"
)
COLLECTION_MODEL: Schema = means(
    STRING, "Served model of the collection's bundle revision; default: the first that has it"
)
FILTER = 'Metadata filter, e.g. year >= 2020 and tone in ("warm", "cold")'
_WEIGHT: Schema = means(
    {"type": "number", "minimum": -_MOST_WEIGHT, "maximum": _MOST_WEIGHT},
    "Factor of this term in the sum; default 1; below 0: hits are unlike it",
)


def list_shapes(**more: Schema) -> list[Schema]:
    """Return the shapes of one term or item, for each kind that it may be."""
    kinds: dict[str, Schema] = {
        "text": means(TEXT, "A text to embed"),
        "image": IMAGE,
        "vector": VECTOR,
    }
    absent = dict.fromkeys(kinds, NULL)
    required = ["id"] if "id" in more else []
    return [
        request_object([*required, name], **{**absent, name: kind}, **more)
        for name, kind in kinds.items()
    ]


TERM: Schema = either(
    TEXT,
    *list_shapes(weight=_WEIGHT, item=NULL),
    request_object(
        ["item"],
        item=means(TEXT, "Id of an item of the collection, whose embedding is used"),
        weight=_WEIGHT,
        **dict.fromkeys(("text", "image", "vector"), NULL),
    ),
)


@dataclass(frozen=True)
class QueryTerm:
    """One term of a query as the client sent it."""

    item: InputItem | None
    vector: tuple[float, ...] | None
    weight: float
    stored: str | None = None  # the id of an item of the collection


def read_term(raw: object, where: str, longest: int, *, stored: bool = False) -> QueryTerm:
    """Return one term: a bare text, or an object with text, image or vector, and a weight.

    `stored` allows an `item` too: the id of one of the collection.
    """
    if isinstance(raw, str):
        return QueryTerm(InputItem(text=check_text(raw, where, longest)), None, 1.0)
    fields = Fields(raw, where)
    kinds = ("text", "image", "vector", *(("item",) if stored else ()))
    fields.only(*kinds, "weight")
    weight = fields.number("weight", -_MOST_WEIGHT, _MOST_WEIGHT)
    weight = 1.0 if weight is None else weight
    given = [name for name in kinds if fields.has(name)]
    if len(given) != 1:
        raise InputError(f"{where} must hold one of {', '.join(kinds)}", field=where)
    if given[0] == "item":
        return QueryTerm(
            None, None, weight, check_text(fields.any("item"), f"{where}.item", longest)
        )
    if given[0] == "vector":
        return QueryTerm(None, _read_vector(fields, where), weight)
    if given[0] == "text":
        text = check_text(fields.any("text"), f"{where}.text", longest)
        return QueryTerm(InputItem(text=text), None, weight)
    return QueryTerm(InputItem(image=fields.text("image")), None, weight)


def _read_vector(fields: Fields, where: str) -> tuple[float, ...]:
    values = fields.values("vector", _MOST_NUMBERS) or []
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in values):
        raise InputError(f"{where}.vector must be numbers", field=f"{where}.vector")
    with np.errstate(over="ignore"):
        length = np.linalg.norm(np.asarray(values, np.float32))
    if not np.isfinite(length):
        raise InputError(
            f"{where}.vector is too long for 32-bit numbers; scale it to length 1",
            field=f"{where}.vector",
            code="vector_mismatch",
        )
    return tuple(map(float, values))
