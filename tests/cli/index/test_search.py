"""Options of `twinlens search` beyond the nearest items, with the toy bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from twinlens.index.writer import Writer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def captioned(cli: Run, tmp_path: Path, toy_bundle: Path, squares: dict[str, bytes]) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = []
    for number, (colour, raw) in enumerate(squares.items()):
        (folder / f"{colour}.png").write_bytes(raw)
        caption = f"taken in place{number}"
        row = {"path": str(folder / f"{colour}.png"), "caption": caption, "kind": "square"}
        lines.append(json.dumps(row))
    (folder / "table.jsonl").write_text("\n".join(lines))
    out = tmp_path / "photos.index"
    table = folder / "table.jsonl"
    code, _, err = cli("index", "build", table, "-o", out, "--bundle", toy_bundle)
    assert code == 0, err
    return out


def test_hybrid_search_finds_words_of_captions(cli: Run, captioned: Path) -> None:
    ask = ("search", captioned, "red place2", "--hybrid", "--json")
    code, text, err = cli(*ask, "--explain", "-k", 3)
    assert code == 0, err
    told = json.loads(text)
    by_id = {Path(hit["id"]).name: hit["explain"] for hit in told["hits"]}
    assert by_id["blue.png"]["words"]["rank"] == 1
    assert by_id["red.png"] == {
        "vector": {"rank": 1, "score": pytest.approx(1, abs=0.1)},
        "words": None,
    }
    assert told["path"]["recall"] == {"image": 1.0, "text": 1.0}
    first = json.loads(cli(*ask, "--balance", 0.9)[1])[0]
    assert Path(first["id"]).name == "blue.png"
    code, text, err = cli("search", captioned, "red place2", "--hybrid", "--explain")
    assert "[vector 1 (" in text
    assert "not in words]" in text
    assert ": exact, rows 3, scored 3" in err
    assert "recall@10: image 1.0000, text 1.0000" in err


def test_captions_are_indexed_by_field(cli: Run, captioned: Path) -> None:
    code, _, err = cli("index", "captions", captioned, "kind")
    assert (code, "the captions of 3 items are indexed" in err) == (0, True)
    ask = ("search", captioned, "red", "--hybrid", "--balance", 1, "--json")
    assert len(json.loads(cli(*ask)[1])) == 3
    with Writer(captioned):
        assert cli("index", "captions", captioned)[0] == 2  # another process writes


def test_one_hit_per_value_and_pages(cli: Run, captioned: Path) -> None:
    assert len(cli("search", captioned, "red", "--one-per", "kind")[1].splitlines()) == 1
    whole = cli("search", captioned, "red")[1].splitlines()
    assert cli("search", captioned, "red", "--offset", 1, "-k", 1)[1].splitlines() == whole[1:2]
    assert len(cli("search", captioned, "red", "--diversity", 0.5)[1].splitlines()) == 3


@pytest.mark.parametrize("option", [("--hybrid",), ("--offset", 1), ("--explain",)])
def test_options_that_exclude_each_other_are_refused(
    cli: Run, captioned: Path, option: tuple[object, ...]
) -> None:
    code, _, err = cli("search", captioned, "red", "--group", 0.9, *option)
    assert (code, "--group cannot be combined" in err) == (2, True)


def test_hybrid_needs_words(cli: Run, captioned: Path, tmp_path: Path) -> None:
    code, _, err = cli("search", captioned, "--image", tmp_path / "photos/red.png", "--hybrid")
    assert (code, "--hybrid needs a text" in err) == (2, True)


def test_the_number_of_hits_has_a_long_name_too(cli: Run, captioned: Path) -> None:
    assert len(cli("search", captioned, "red", "--top-k", 2)[1].splitlines()) == 2


def test_a_hit_is_a_link_on_a_terminal_alone(
    cli: Run, captioned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\033]8" not in cli("search", captioned, "red")[1]
    monkeypatch.setattr("twinlens.cli.terminal.is_terminal", lambda: True)
    out = cli("search", captioned, "red", "-k", 1)[1]
    assert f"\033]8;;{(captioned.parent / 'photos' / 'red.png').as_uri()}\033\\" in out
