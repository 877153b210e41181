"""Options that several dialects of embedding requests share: length and number type of rows."""

from __future__ import annotations

from twinlens.serving.openapi.schemas import Schema, means, one_of
from twinlens.serving.requests.fields import Fields

MOST_DIMENSIONS = 65_536
_VOYAGE_TYPES = ("float", "int8", "uint8", "binary", "ubinary")
DIMENSIONS: Schema = means(
    {"type": "integer", "minimum": 1, "maximum": MOST_DIMENSIONS},
    "Shorten rows to a length that the model offers, and normalise again; default: full length",
)
NUMBER_TYPE: Schema = means(
    one_of(*_VOYAGE_TYPES),
    "Number type of the rows; `binary` and `ubinary` are the signs, 8 in a number; default `float`",
)


def read_voyage_type(fields: Fields) -> str:
    """Return our name for the number type that a Voyage client requests."""
    asked = fields.text("output_dtype", _VOYAGE_TYPES) or "float"
    return "float32" if asked == "float" else asked


def read_dimensions(fields: Fields) -> int | None:
    """Return the requested length; Cohere and Voyage call it `output_dimension`."""
    named = fields.integer("output_dimension", 1, MOST_DIMENSIONS)
    plain = fields.integer("dimensions", 0, MOST_DIMENSIONS)  # 0: infinity's word for all
    return (plain or None) if named is None else named
