"""`twinlens index dedup` with the toy bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.upkeep.planted import draw, encode

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def doubled(cli: Run, tmp_path: Path, toy_bundle: Path) -> Path:
    folder = tmp_path / "drawings"
    folder.mkdir()
    for number in range(4):
        image = draw(number)
        (folder / f"d{number}.png").write_bytes(encode(image, "png")[1])
    (folder / "d0-small.jpg").write_bytes(encode(draw(0).resize((64, 64)), "jpg")[1])
    out = tmp_path / "drawings.index"
    assert cli("index", "build", folder, "-o", out, "--bundle", toy_bundle)[0] == 0
    return out


def test_copies_are_printed_shown_and_removed(cli: Run, doubled: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "copies.html"
    code, text, err = cli("index", "dedup", doubled, "--sheet", sheet)
    assert code == 0, err
    assert [line.split()[-1] for line in text.splitlines()] == ["d0.png", "d0-small.jpg"]
    assert "1 groups, 1 copies would be deleted with --remove, 5 items" in err
    page = sheet.read_text()
    assert "<h2>d0.png and 1 copies</h2>" in page
    assert page.count("data:image/webp;base64,") == 2
    remove = ("index", "dedup", doubled, "--remove")
    assert cli(*remove, "--max-delete", 0, "--yes")[0] == 2
    assert "Confirm with --yes" in cli(*remove)[2]
    code, text, _ = cli(*remove, "--dry-run", "--json")
    assert (code, json.loads(text)["count"]) == (0, 5)
    code, text, _ = cli(*remove, "--yes", "--json")
    told = json.loads(text)
    assert (code, told["count"], told["groups"][0]["keep"]) == (0, 4, "d0.png")
    assert told["groups"][0]["copies"][0]["kind"] == "near"
    assert json.loads(cli("index", "dedup", doubled, "--json")[1])["groups"] == []
