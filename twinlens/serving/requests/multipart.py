"""multipart/form-data from a body that is already in memory and already within its limit.

python-multipart does the parsing; nothing is spooled to disk and no file name is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from twinlens.errors import InputError, TooLargeError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_PARTS = 10_000
_MAX_HEADER = 8192


@dataclass
class Form:
    """The contents of a form by field name, in the order sent."""

    files: dict[str, list[bytes]] = field(default_factory=dict)
    values: dict[str, list[str]] = field(default_factory=dict)


def parse_form(body: bytes, content_type: str) -> Form:
    """Return the files and values of a form."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InputError("the Content-Type has no boundary", code="invalid_form")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise InputError("the body is not a valid multipart form", code="invalid_form") from None
    if not reader.has_ended:
        raise InputError("the multipart form is truncated", code="invalid_form")
    return reader.form


class _Reader:
    """Collects the parser's events into a form."""

    def __init__(self) -> None:
        self.form = Form()
        self.has_ended = False
        self._parts = 0
        self._name = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._content: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise TooLargeError(f"the form has more than {_MAX_PARTS} parts")
        self._headers = {}
        self._content = []

    def _header_name(self, chunk: bytes, start: int, end: int) -> None:
        self._name += chunk[start:end]

    def _header_value(self, chunk: bytes, start: int, end: int) -> None:
        self._value += chunk[start:end]
        if len(self._value) > _MAX_HEADER:
            raise TooLargeError(f"a header of the form is longer than {_MAX_HEADER} bytes")

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _data(self, chunk: bytes, start: int, end: int) -> None:
        self._content.append(chunk[start:end])

    def _end(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        name = options.get(b"name", b"").decode("utf-8", "replace")
        content = b"".join(self._content)
        if b"filename" in options:
            self.form.files.setdefault(name, []).append(content)
            return
        try:
            self.form.values.setdefault(name, []).append(content.decode())
        except UnicodeDecodeError:
            raise InputError(f"form field {name!r} is not UTF-8", field=name) from None

    def _finish(self) -> None:
        self.has_ended = True
