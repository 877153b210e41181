"""Bodies by a seed: such as a schema allows, and such as are wrong in a place or two."""

from __future__ import annotations

import random
from typing import Any

_WRONG: tuple[Any, ...] = (
    None,
    0,
    1,
    -1,
    2.5,
    7.0,
    10**9,
    True,
    "",
    "x",
    "{}",
    [],
    ["a"],
    [[]],
    [3],
    {},
    {"a": 1},
)
_STRINGS = ("a red square", "x", "{} of {}", "a {}", "data:image/png;base64,AAAA", "AAAA", "photo")


class BodyMaker:
    """Makes bodies for the shapes of one document."""

    def __init__(self, components: dict[str, Any], seed: int) -> None:
        self._components = components
        self._rng = random.Random(seed)

    def make(self, schema: dict[str, Any]) -> Any:
        """Return a body: in half of the cases with faults here and there."""
        faults = self._rng.choice((0.0, 0.0, 0.03, 0.12))
        body = self._make(schema, faults)
        if isinstance(body, dict) and self._rng.random() < 0.05:
            body["unknown_option"] = 1
        return body

    def _make(self, schema: dict[str, Any], faults: float) -> Any:
        if self._rng.random() < faults:
            return self._rng.choice(_WRONG)
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return self._make(self._components[name], faults)
        if "anyOf" in schema:
            return self._make(self._rng.choice(schema["anyOf"]), faults)
        if "const" in schema or "enum" in schema:
            return self._rng.choice(schema.get("enum") or [schema["const"]])
        return self._make_of_type(schema, faults)

    def _make_of_type(self, schema: dict[str, Any], faults: float) -> Any:
        kind = schema.get("type")
        if kind == "object":
            return self._make_object(schema, faults)
        if kind == "array":
            least = schema.get("minItems", 0)
            most = min(schema.get("maxItems", 3), 3)
            count = self._rng.randint(least, max(least, most))
            count += self._rng.random() < faults  # one too many, where there is a limit
            return [self._make(schema["items"], faults) for _ in range(count)]
        if kind in ("integer", "number"):
            return self._make_number(schema, whole=kind == "integer")
        if kind == "boolean":
            return self._rng.random() < 0.5
        return None if kind == "null" else self._rng.choice(_STRINGS)

    def _make_number(self, schema: dict[str, Any], *, whole: bool) -> float:
        low, high = schema.get("minimum", -2), schema.get("maximum", 2)
        found = self._rng.choice((low, high, self._rng.uniform(low, high), low - 1, high + 1))
        return round(found) if whole else found

    def _make_object(self, schema: dict[str, Any], faults: float) -> dict[str, Any]:
        """Return members: those required, and few of the others, since some exclude each other."""
        required = set(schema.get("required", ()))
        for rule in schema.get("allOf", ()):
            groups = [one["required"] for one in rule.get("oneOf", ())]
            required |= set(self._rng.choice(groups)) if groups else set()
        if self._rng.random() < faults and required:
            required.discard(self._rng.choice(sorted(required)))
        shapes = schema.get("properties", {})
        share = self._rng.choice((0.0, 0.1, 0.3))
        names = [n for n in shapes if n in required or self._rng.random() < share]
        return {name: self._make_given(shapes[name], name in required, faults) for name in names}

    def _make_given(self, schema: dict[str, Any], required: bool, faults: float) -> Any:
        if required and schema.get("anyOf", [{}])[-1] == {"type": "null"}:
            schema = {**schema, "anyOf": schema["anyOf"][:-1]}
        return self._make(schema, faults)
