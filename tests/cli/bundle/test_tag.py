"""`twinlens tag`: the nearest words of image files, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "words.txt"
    file.write_text("red\nblue\ngreen\n")
    return file


def test_the_nearest_word_comes_first(
    cli: Run, toy_bundle: Path, pictures: dict[str, Path], words: Path
) -> None:
    ask = ("tag", pictures["blue"], pictures["red"], "-b", toy_bundle, "--words", words, "-k", 2)
    code, out, err = cli(*ask)
    assert code == 0 and "is not calibrated: cosines are shown" in err
    assert [line.split()[0] for line in out.splitlines()[1::3]] == ["blue", "red"]
    answer = json.loads(cli(*ask, "--json")[1])
    assert [one["tags"][0]["tag"] for one in answer["data"]] == ["blue", "red"]
    assert len(answer["data"][0]["tags"]) == 2
    assert answer["data"][0]["tags"][0]["probability"] is None


def test_words_are_embedded_once_for_a_bundle(
    cli: Run,
    toy_bundle: Path,
    pictures: dict[str, Path],
    words: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from twinlens.bundle.encoder import Encoder

    ask = ("tag", pictures["blue"], "-b", toy_bundle, "--words", words)
    first = cli(*ask)

    def refuse(*_: object) -> None:
        raise AssertionError("embedded again")

    monkeypatch.setattr(Encoder, "class_bank", refuse)
    assert cli(*ask)[:2] == first[:2]
