"""`twinlens info`: the card of a bundle."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import twinlens

Make = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]


def test_info_says_which_engine_was_chosen(cli: Run, make_toy: Make, openvino: Path) -> None:
    folder = make_toy()
    assert cli("info", folder)[1].count("measured when it is first opened") == 2
    twinlens.open_bundle(folder)
    assert len(re.findall("engine +onnxruntime: ", cli("info", folder)[1])) == 2


def test_info_speaks_of_no_engine_where_there_is_one(cli: Run, toy_bundle: Path) -> None:
    assert "engine" not in cli("info", toy_bundle)[1]


def test_info_prints_the_card(cli: Run, toy_bundle: Path) -> None:
    code, out, _ = cli("info", toy_bundle)
    assert code == 0
    assert "16 dimensions, or 4, 8" in out
    assert json.loads(cli("info", toy_bundle, "--json")[1])["name"] == "toy"


def test_many_numbers_are_counted_and_not_printed(cli: Run) -> None:
    code, out, _ = cli("info", "builtin")
    assert code == 0
    assert re.search(r"metrics +\d+ values; --json prints them", out)
    assert max(map(len, out.splitlines())) < 500
    assert "shipped" in json.loads(cli("info", "builtin", "--json")[1])["provenance"]["metrics"]
