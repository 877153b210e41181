"""JSON bodies whose long strings are parsed one by one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinlens.errors import InputError
from twinlens.serving.requests import long_strings
from twinlens.serving.requests.fields import parse_object
from twinlens.serving.requests.long_strings import ParsedBody, parse_apart

TEXTS = st.text(max_size=12) | st.sampled_from(["a" * 30, '\\"' * 9, "\\" * 20, "é" * 20, '"' * 8])
VALUES = st.recursive(
    TEXTS | st.integers(-5, 5) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


async def give_way(seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture
def short_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_strings, "_LONG", 8)
    monkeypatch.setattr(long_strings, "_STRING_COST", 1)
    monkeypatch.setattr(long_strings, "_TURN_BYTES", 40)


def parse_whole(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return InputError


def parse(body: bytes) -> Any:
    found = asyncio.run(parse_apart(body, give_way))
    return found.value if isinstance(found, ParsedBody) else parse_whole(found)


@pytest.mark.usefixtures("short_is_long")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=200,
)
@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_a_body_has_the_value_that_one_pass_finds(
    value: Any, is_escaped: bool, indent: int | None
) -> None:
    body = json.dumps(value, ensure_ascii=is_escaped, indent=indent).encode("utf-8", "replace")
    assert parse(body) == parse_whole(body)


@pytest.mark.usefixtures("short_is_long")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=300,
)
@given(VALUES, st.data())
def test_a_damaged_body_is_refused_or_read_as_by_one_pass(value: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 1))] = data.draw(
            st.sampled_from([b'"', b"\\", b"\n", b"\xff", b",", b"]", b"a", b"0"])
        )
    assert parse(bytes(body)) == parse_whole(bytes(body))


@pytest.mark.usefixtures("short_is_long")
def test_deep_bodies_and_long_names_are_read() -> None:
    deep: Any = "x" * 40
    for _ in range(200):
        deep = [deep]
    body = orjson.dumps({"n" * 30: 1, "deep": deep, "b": "y" * 50, "n" * 31: ["z" * 9, 2]})
    assert parse(body) == orjson.loads(body)


def test_after_many_strings_the_rest_is_read_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_strings, "_MOST_STRINGS", 5)
    body = orjson.dumps([*"abcdef", "x" * 5000, "g"])
    found = asyncio.run(parse_apart(body, give_way))
    assert isinstance(found, ParsedBody)
    assert (found, found.value) == (body, orjson.loads(body))


def test_other_requests_run_while_megabytes_are_parsed() -> None:
    body = orjson.dumps({"images": ["QUJD" * 20_000] * 60})

    async def count_turns() -> int:
        parsing = asyncio.ensure_future(parse_apart(body, give_way))
        turns = 0
        while not parsing.done():
            await asyncio.sleep(0)
            turns += 1
        found = parsing.result()
        assert isinstance(found, ParsedBody)
        assert len(found) < 4000
        assert found.value == orjson.loads(body)
        return turns

    assert asyncio.run(count_turns()) >= 8


def test_fields_of_a_parsed_body_are_read_without_another_pass() -> None:
    found = asyncio.run(parse_apart(orjson.dumps({"texts": ["t" * 5000]}), give_way))
    fields = parse_object(found, "application/json")
    assert fields.texts("texts", 4, 9000) == ["t" * 5000]
