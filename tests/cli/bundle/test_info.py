"""`twinlens info`: the card of a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_info_prints_the_card(cli: Run, toy_bundle: Path) -> None:
    code, out, _ = cli("info", toy_bundle)
    assert code == 0
    assert "16 dimensions, or 4, 8" in out
    assert json.loads(cli("info", toy_bundle, "--json")[1])["name"] == "toy"
