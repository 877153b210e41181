"""The filter language: `label = "cat" and year >= 2020 and tag in ("a", "b")`.

Text is parsed into the small tree of `filters` and never executed; errors give their position.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from twinlens.errors import InputError
from twinlens.index.query.filters import (
    ORDERS,
    Both,
    Comparison,
    Contains,
    Either,
    Equals,
    Filter,
    FilterValue,
    Has,
    Near,
    Not,
)
from twinlens.index.query.places import LATITUDE, LONGITUDE

MAX_LENGTH = 10_000
MAX_DEPTH = 50


def parse_filter(text: str) -> Filter:
    """Return the tree of a filter; raise an `InputError` with the position of a fault."""
    if len(text) > MAX_LENGTH:
        raise InputError(
            f"filter: {len(text)} characters; the limit is {MAX_LENGTH}", field="filter"
        )
    return _Parser(text).parse()


_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
  | (?P<sign><=|>=|!=|==|=|<|>|\(|\)|,)
  | (?P<word>[^\W\d][\w.\-]*)
  | (?P<quoted>`[^`]+`)
    )""",
    re.VERBOSE,
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "has", "contains", "true", "false"})
_GRAMMAR = (
    "use FIELD = VALUE, !=, <, <=, >, >=, FIELD between A and B, FIELD in (...),"
    ' FIELD contains "...", has FIELD, within (SOUTH, WEST, NORTH, EAST),'
    " near (LATITUDE, LONGITUDE, KM), and, or, not, ( )"
)
_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True)
class _Token:
    kind: str  # string, number, sign, word, quoted, end
    text: str
    at: int


class _Parser:
    """Recursive descent, one method per level of precedence: or < and < not < comparison."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._scan())
        self._next = 0
        self._depth = 0

    def parse(self) -> Filter:
        tree = self._either()
        if self._peek().kind != "end":
            raise self._fault("expected `and`, `or` or the end")
        return tree

    def _scan(self) -> Iterator[_Token]:
        at, end = 0, len(self._text.rstrip())
        while at < end:
            found = _TOKEN.match(self._text, at)
            if not found or found.lastgroup is None:
                raise self._fault("unexpected character", at)
            yield _Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup))
            at = found.end()
        yield _Token("end", "", len(self._text))

    def _either(self) -> Filter:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fault(f"nested deeper than {MAX_DEPTH}")
        parts = [self._both()]
        while self._accept("or"):
            parts.append(self._both())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self) -> Filter:
        parts = [self._negation()]
        while self._accept("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _negation(self) -> Filter:
        flips = 0
        while self._accept("not"):
            flips += 1
        tree = self._operand()
        return Not(tree) if flips % 2 else tree

    def _operand(self) -> Filter:
        if self._accept("("):
            tree = self._either()
            self._expect(")")
            return tree
        if self._accept("has"):
            return Has(self._field())
        if (place := self._place()) is not None:
            return place
        field = self._field()
        if self._accept("between"):
            return self._between(field)
        if self._accept("in"):
            return Equals(field, self._values())
        if self._accept("not"):
            self._expect("in")
            return Equals(field, self._values(), negated=True)
        if self._accept("contains"):
            part = self._value()
            if not isinstance(part, str):
                raise self._fault("`contains` needs a string", self._before())
            return Contains(field, part)
        return self._comparison(field)

    def _between(self, field: str) -> Filter:
        """Return the tree of a range with both ends: all that begins with the upper string too."""
        low, at = self._value(), self._before()
        self._expect("and")
        high = self._value()
        if isinstance(low, bool) or isinstance(high, bool) or type(low) is not type(high):
            raise self._fault("`between` needs two numbers or two strings", at)
        upper: Filter = Comparison(field, "<=", high)
        if isinstance(high, str):
            upper = Comparison(field, "<", high + _LAST_CHARACTER)
        return Both((Comparison(field, ">=", low), upper))

    def _place(self) -> Filter | None:
        """Return the tree of `within (...)` or `near (...)`, if one is next."""
        if self._tokens[min(self._next + 1, len(self._tokens) - 1)].text != "(":
            return None
        if self._accept("within"):
            south, west, north, east = self._numbers("within", 4)
            across = Either if west > east else Both  # over the line between the days
            sides = (Comparison(LONGITUDE, ">=", west), Comparison(LONGITUDE, "<=", east))
            return Both(
                (
                    Comparison(LATITUDE, ">=", south),
                    Comparison(LATITUDE, "<=", north),
                    across(sides),
                )
            )
        if self._accept("near"):
            return Near(*self._numbers("near", 3))
        return None

    def _numbers(self, name: str, count: int) -> tuple[float, ...]:
        at = self._before()
        values = self._values()
        numbers = tuple(value for value in values if isinstance(value, float))
        if not len(values) == len(numbers) == count:
            raise self._fault(f"`{name}` needs {count} numbers in parentheses", at)
        return numbers

    def _comparison(self, field: str) -> Filter:
        token = self._take()
        if token.text in {"=", "=="}:
            return Equals(field, (self._value(),))
        if token.text == "!=":
            return Equals(field, (self._value(),), negated=True)
        if token.text not in ORDERS:
            raise self._fault("expected a comparison", token.at)
        value = self._value()
        if isinstance(value, bool):
            raise self._fault(f"`{token.text}` needs a number or a string", self._before())
        return Comparison(field, token.text, value)

    def _values(self) -> tuple[FilterValue, ...]:
        self._expect("(")
        values = [self._value()]
        while self._accept(","):
            values.append(self._value())
        self._expect(")")
        return tuple(values)

    def _field(self) -> str:
        token = self._take()
        if token.kind == "quoted":
            return token.text[1:-1]
        if token.kind != "word" or token.text.lower() in _KEYWORDS:
            raise self._fault("expected a field", token.at)
        return token.text

    def _value(self) -> FilterValue:
        token = self._take()
        if token.kind == "number":
            return float(token.text)
        if token.kind == "string":
            return _unquote(token.text)
        if token.kind == "word" and token.text.lower() in {"true", "false"}:
            return token.text.lower() == "true"
        raise self._fault("expected a number, a quoted string, true or false", token.at)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _before(self) -> int:
        return self._tokens[self._next - 1].at

    def _accept(self, text: str) -> bool:
        token = self._peek()
        if token.kind in {"word", "sign"} and token.text.lower() == text:
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._fault(f"expected `{text}`")

    def _fault(self, what: str, at: int | None = None) -> InputError:
        place = self._peek().at if at is None else at
        rest = self._text[place : place + 20]
        return InputError(
            f"filter: {what} at position {place} ({rest!r}); {_GRAMMAR}", field="filter"
        )


def _unquote(text: str) -> str:
    """Return the string between quotes; a backslash escapes the next character."""
    if text[0] == '"':
        try:
            return str(json.loads(text))  # the escapes of JSON: \n, \u00e9
        except ValueError:
            pass  # not an escape of JSON: read like single quotes
    return re.sub(r"\\(.)", r"\1", text[1:-1])
