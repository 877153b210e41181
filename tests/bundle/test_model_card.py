"""The model card: written strictly, read with what later versions add."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from twinlens.bundle.encoder import find_bundle
from twinlens.bundle.model_card import ModelCard, parse_card, read_card, read_card_file
from twinlens.bundle.store import read_manifest
from twinlens.errors import InputError

CARD = ModelCard("squares", ("red squares",), ("circles", "text"), ("en",), "MIT", "9 squares")


def test_a_card_is_read_as_it_was_written(toy_bundle: Path) -> None:
    manifest = dataclasses.replace(
        read_manifest(toy_bundle), extensions={"card": CARD.to_extension()}
    )
    assert read_card(manifest) == CARD


def test_what_a_later_version_adds_is_left_out(toy_bundle: Path) -> None:
    later = {**CARD.to_extension(), "energy": 3, "licence": ["MIT", "BSD"]}
    manifest = dataclasses.replace(read_manifest(toy_bundle), extensions={"card": later})
    assert read_card(manifest) == dataclasses.replace(CARD, licence="")


def test_a_bundle_without_a_card_has_none(toy_bundle: Path) -> None:
    assert read_card(read_manifest(toy_bundle)) is None


def test_the_headline_says_what_it_is_for_and_not_for() -> None:
    assert CARD.headline == "for squares; not for circles; text"
    assert ModelCard().headline == ""


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"domian": "x"}, "unknown field 'domian'; known: domain"),
        ({"domain": ["x"]}, "card.domain is .*; expected a text"),
        ({"good_for": "x"}, "card.good_for is 'x'; expected a list of texts"),
        ({"languages": [1]}, "expected a list of texts"),
    ],
)
def test_a_faulty_card_is_refused_by_its_field(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_card(raw)


def test_a_file_that_holds_no_card_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    with pytest.raises(InputError, match="is not a file"):
        read_card_file(path)
    path.write_text("[1]")
    with pytest.raises(InputError, match="does not hold an object"):
        read_card_file(path)
    path.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_card_file(path)
    path.write_text(json.dumps(CARD.to_extension()))
    assert read_card_file(path) == CARD


def test_the_builtin_says_that_it_is_not_for_photographs() -> None:
    card = read_card(read_manifest(find_bundle("builtin")))
    assert card is not None
    assert "drawings" in card.domain
    assert "photographs of anything but clothes" in card.not_for[0]
    assert len(card.languages) == 11
