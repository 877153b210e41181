"""Classes and templates as requests name them, and values of forms that are not text."""

from __future__ import annotations

import re

from twinlens.errors import InputError
from twinlens.serving.openapi.request_shapes import not_both
from twinlens.serving.openapi.schemas import TEXT, Schema, array_of, either, means, one_of
from twinlens.serving.requests.fields import Fields, check_text
from twinlens.serving.settings import Limits
from twinlens.serving.zeroshot.templates import SETS, choose_templates

TEMPLATE_NAMES = ("templates", "hypothesis_template")
_NO_PLACE = r"(?:[^{]|\{+[^{}])*"
_TEMPLATE: Schema = {  # that holds {} exactly once
    "type": "string",
    "pattern": rf"^{_NO_PLACE}\{{+\}}{_NO_PLACE}\{{*$",
}
_SET: Schema = {**one_of(*SETS), "description": "A named set of templates"}
TEMPLATES: Schema = means(
    either(_TEMPLATE, _SET, array_of(_TEMPLATE, minItems=1)),
    "A template with `{}` for the class name, several, or a named set; default: the bundle's",
)
FORM_TEMPLATES: Schema = means(
    array_of(_TEMPLATE, minItems=1), "As in JSON: repeat the field for several templates"
)
ONE_OF_TEMPLATES: Schema = not_both(*TEMPLATE_NAMES)
CLASSES: Schema = means(array_of(TEXT, minItems=1), "Class names; at most `limits.classes`")
# The names under which a JSON request may give its templates.
TEMPLATE_FIELDS: dict[str, Schema] = {
    "templates": TEMPLATES,
    "hypothesis_template": means(TEMPLATES, "Another name of `templates`; give one of the two"),
}

_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,9}(?:\.[0-9]{0,17})?|\.[0-9]{1,17})(?:[eE][+-]?[0-9]{1,3})?")


def read_templates(fields: Fields, limits: Limits) -> tuple[str, ...] | None:
    """Return the given templates: a named set, one, or a list; None if there are none."""
    if all(fields.has(name) for name in TEMPLATE_NAMES):
        raise InputError("give either templates or hypothesis_template", field=TEMPLATE_NAMES[1])
    for name in TEMPLATE_NAMES:
        value = fields.any(name)
        if isinstance(value, str):
            return choose_templates(check_text(value, name, limits.text_characters), ())
        if value is not None:
            given = fields.texts(name, limits.templates, limits.text_characters)
            return choose_templates(given, ())
    return None


def read_value(value: str) -> object:
    """Return a form's text as the boolean or number that it spells, else unchanged."""
    if value.lower() in _TRUTHS:
        return _TRUTHS[value.lower()]
    if _INTEGER.fullmatch(value):
        return int(value)
    return float(value) if _NUMBER.fullmatch(value) else value
