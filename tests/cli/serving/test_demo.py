"""`twinlens demo` draws once, indexes once, and its images are found by text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twinlens.cli.main import run
from twinlens.demo import find_font

NOTHING = "nothing here matches"


def _call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    with pytest.raises(SystemExit) as stop:
        run([str(argument) for argument in arguments])
    assert stop.value.code == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_without_an_index_it_prints_the_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, err = _call(capsys, "demo", "--folder", tmp_path, "--no-emoji", "--no-index")
    assert Path(out.strip()) == tmp_path / "drawings" / "index.csv"
    assert "drawn from drawings" in err


def test_it_opens_the_server_on_the_collection(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "twinlens.cli.serving.serve.serve",
        lambda context, bundles, **given: served.append({"bundles": bundles} | given),
    )
    monkeypatch.setattr("twinlens.cli.serving.demo._index", lambda corpus: tmp_path / "collection")
    monkeypatch.setenv("TWINLENS_DATA", str(tmp_path / "data"))
    _, err = _call(capsys, "demo", "--folder", tmp_path, "--no-emoji", "--port", 8123, "--open")
    assert served[0]["collection"] == [f"demo={tmp_path / 'collection'}"]
    assert (served[0]["port"], served[0]["show"]) == (8123, True)
    assert served[0]["data"] == tmp_path / "data" / "demo"
    assert f"are kept in {tmp_path / 'data' / 'demo'}" in err
    assert served[0]["bundles"] == ["builtin:photographs", "builtin"]
    assert "http://127.0.0.1:8123/search" in err


def test_the_drawn_corpus_is_searchable_and_reused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("faiss")
    demo = ("demo", "--folder", tmp_path, "--no-emoji", "--json")
    first: dict[str, Any] = json.loads(_call(capsys, *demo)[0])
    second = json.loads(_call(capsys, *demo)[0])
    assert not first["kept"]
    assert second["kept"]
    assert second["collection"] == first["collection"]
    stats = json.loads(_call(capsys, "index", "stats", first["collection"], "--json")[0])
    assert stats["count"] == first["count"]
    found = json.loads(_call(capsys, "search", first["collection"], "red heart", "--json")[0])
    assert "red heart" in [hit["id"] for hit in found[:3]]
    for words, shown in (("a cat", "cat"), ("ein Hund", "dog"), ("pizza", "pizza on a table")):
        found = json.loads(_call(capsys, "search", first["collection"], words, "--json")[0])
        assert any(shown in hit["id"] for hit in found[:3]), words
    for words in ("a dog", "a boat", "a tree", "a cup of coffee", "a bed"):
        assert NOTHING not in _call(capsys, "search", first["collection"], words)[1], words
    for words in ("a carburetor", "an oscilloscope", "a trilobite", "a gas mask"):
        assert NOTHING in _call(capsys, "search", first["collection"], words)[1], words


@pytest.mark.slow
def test_what_is_among_the_emoji_is_found_without_doubt_and_what_is_not_is_doubted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if find_font() is None:
        pytest.skip("this system has no colour emoji font that can be drawn with")
    drawn: dict[str, Any] = json.loads(_call(capsys, "demo", "--folder", tmp_path, "--json")[0])
    for words in ("a dog", "a birthday cake", "a boat", "a red heart", "ein Fahrrad", "a kitchen"):
        assert NOTHING not in _call(capsys, "search", drawn["collection"], words)[1], words
    for words in ("a carburetor", "an oscilloscope", "an armadillo", "a plate rack"):
        assert NOTHING in _call(capsys, "search", drawn["collection"], words)[1], words
