"""The shapes of forms (multipart/form-data): images as files, everything else as text fields."""

from __future__ import annotations

from twinlens.serving.openapi.requests import EMBED_OPTIONS, TEMPLATE
from twinlens.serving.openapi.schemas import (
    MODEL,
    PRECISION,
    TEXT,
    Schema,
    array_of,
    closed_object,
    either,
)

_FILES: Schema = array_of({"type": "string", "format": "binary"}, minItems=1)
_CLASSES = array_of(TEXT, minItems=1)
_TEMPLATES = array_of(TEMPLATE, minItems=1)

FORMS: dict[str, Schema] = {
    "embed": {
        **closed_object([], images=_FILES, texts=array_of(TEXT, minItems=1), **EMBED_OPTIONS),
        "anyOf": [{"required": ["images"]}, {"required": ["texts"]}],
    },
    "zeroshot": {
        "description": "In the place of classes: classifier, the name of a stored one",
        **closed_object(
            ["images", "classes"],
            images=_FILES,
            classes=_CLASSES,
            templates=_TEMPLATES,
            top_k={"type": "integer", "minimum": 1, "maximum": 1_000_000},
            multi_label={"type": "boolean"},
            none_of_these=either(
                {"type": "boolean"}, {"type": "number", "minimum": -1, "maximum": 1}
            ),
            model=MODEL,
            precision=PRECISION,
        ),
    },
    "classifier": {
        "description": "And files: examples:CLASS for images of a class",
        **closed_object(
            ["classes"],
            classes=_CLASSES,
            templates=_TEMPLATES,
            text_weight={"type": "number", "minimum": 0, "maximum": 1},
            background={"type": "boolean"},
            model=MODEL,
        ),
    },
}
