"""Reading a JSON object that a client sent; every error names its field.

Hand-written because hot requests pass through it; the OpenAPI document describes the same fields.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import orjson

from twinlens.errors import InputError, TooLargeError
from twinlens.serving.failures import MediaTypeError
from twinlens.serving.requests.long_strings import ParsedBody


class Fields:
    """The members of one JSON object. `null` counts as absent."""

    def __init__(self, raw: object, where: str = "") -> None:
        if not isinstance(raw, dict):
            raise InputError(f"{where or 'the body'} must be a JSON object", field=where or None)
        self._raw: dict[str, Any] = raw
        self._where = where

    def has(self, name: str) -> bool:
        """Return whether the field is present and not null."""
        return self._raw.get(name) is not None

    def has_any(self, names: Collection[str]) -> bool:
        """Return whether one of these fields is present and not null."""
        return not self._raw.keys().isdisjoint(names) and any(self.has(name) for name in names)

    def any(self, name: str) -> Any:
        """Return the raw value of the field, or None."""
        return self._raw.get(name)

    def text(self, name: str, choices: Sequence[str] = ()) -> str | None:
        """Return a string, one of `choices` if given."""
        value = self._raw.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._wrong(name, "a string")
        if choices and value not in choices:
            raise self._wrong(name, f"one of {', '.join(choices)}")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean."""
        value = self._raw.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def integer(self, name: str, low: int, high: int) -> int | None:
        """Return an integer between `low` and `high`."""
        value = self._raw.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON knows no integers: 8.0 is one
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(name, f"a whole number within {low} and {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """Return a number between `low` and `high`."""
        value = self._raw.get(name)
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not low <= value <= high:
            raise self._wrong(name, f"a number within {low} and {high}")
        return float(value)

    def values(self, name: str, most: int) -> list[Any] | None:
        """Return a list of 1 to `most` values."""
        value = self._raw.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not value:
            raise self._wrong(name, "a list that is not empty")
        if len(value) > most:
            raise TooLargeError(
                f"{self.path(name)} has {len(value)} entries; the limit is {most}",
                field=self.path(name),
            )
        return value

    def texts(self, name: str, most: int, longest: int) -> list[str] | None:
        """Return a list of non-empty strings of at most `longest` characters."""
        value = self.values(name, most)
        if value is not None:
            for i, text in enumerate(value):
                check_text(text, f"{self.path(name)}[{i}]", longest)
        return value

    def only(self, *names: str) -> None:
        """Refuse fields of other names; a misspelt option must not be ignored silently."""
        for name in self._raw:
            if name not in names:
                raise InputError(
                    f"{self.path(name)!r} is not a known field; use one of: {', '.join(names)}",
                    field=self.path(name),
                    code="unknown_field",
                )

    def path(self, name: str) -> str:
        """Return the field's full name."""
        return f"{self._where}.{name}" if self._where else name

    def _wrong(self, name: str, wanted: str) -> InputError:
        value = repr(self._raw.get(name))
        shown = value if len(value) <= 60 else f"{value[:60]}..."
        return InputError(
            f"{self.path(name)} is {shown}; it must be {wanted}", field=self.path(name)
        )


def check_text(text: object, where: str, longest: int) -> str:
    """Return `text` if it is a string that can be embedded."""
    if not isinstance(text, str) or not text:
        raise InputError(f"{where} must be a string that is not empty", field=where)
    if len(text) > longest:
        raise TooLargeError(
            f"{where} has {len(text)} characters; the limit is {longest}", field=where
        )
    return text


def parse_object(body: bytes, content_type: str) -> Fields:
    """Return the fields of a body whose Content-Type is JSON.

    A browser sends other types for pages of any site, but this one only if the server allows it.
    """
    if not is_json(content_type):
        raise refuse_media(content_type, "JSON, with the header Content-Type: application/json")
    try:
        raw = body.value if isinstance(body, ParsedBody) else orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InputError("the body is not valid JSON", code="invalid_json") from None
    return Fields(raw)


def parse_optional_object(body: bytes, content_type: str) -> Fields:
    """Return the fields of a JSON body, or none where there is no body."""
    return parse_object(body, content_type) if body else Fields({})


def refuse_media(content_type: str, accepted: str) -> MediaTypeError:
    """Return the error for a body of another media type than those accepted."""
    return MediaTypeError(
        f"a body of type {content_type[:80]!r} is not accepted here; send {accepted}"
    )


def is_json(content_type: str) -> bool:
    """Return whether a Content-Type is JSON's."""
    media = content_type.partition(";")[0].strip().lower()
    return media == "application/json" or media.endswith("+json")
