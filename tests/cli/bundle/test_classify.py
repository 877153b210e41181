"""`twinlens classify`: labels of image files, best first, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_classify_prints_the_best_first(
    cli: Run, toy_bundle: Path, pictures: dict[str, Path]
) -> None:
    code, out, err = cli("classify", pictures["blue"], "-c", "red, blue", "--bundle", toy_bundle)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == str(pictures["blue"])
    assert lines[1].split()[0] == "blue"


def test_classify_answers_json(cli: Run, toy_bundle: Path, pictures: dict[str, Path]) -> None:
    code, out, _ = cli(
        "classify", pictures["red"], "-c", "red", "-c", "green", "-b", toy_bundle, "--json", "-k", 1
    )
    answer = json.loads(out)
    assert code == 0
    (label,) = answer["data"][0]["labels"]
    assert (label["label"], label["index"]) == ("red", 0)
    assert label["score"] > 0.99
    assert len(answer["revision"]) == 64


def test_a_bad_file_fails_alone(
    cli: Run, toy_bundle: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    bad, missing = tmp_path / "bad.png", tmp_path / "missing.png"
    bad.write_bytes(b"no picture")
    ask = (pictures["red"], bad, missing, pictures["blue"], "-c", "red,blue", "-b", toy_bundle)
    code, out, err = cli("classify", *ask)
    assert code == 2
    assert [line for line in out.splitlines() if not line.startswith(" ")] == [
        str(pictures["red"]),
        str(pictures["blue"]),
    ]
    assert [
        line.count(str(path)) for line, path in zip(err.splitlines(), (bad, missing), strict=True)
    ]
    code, out, _ = cli("classify", *ask, "--json")
    data = json.loads(out)["data"]
    assert code == 2
    assert [one["image"] for one in data if "error" in one] == [str(bad), str(missing)]
    assert [one["labels"][0]["label"] for one in data if "labels" in one] == ["red", "blue"]


def test_only_bad_files_are_an_error(cli: Run, toy_bundle: Path, tmp_path: Path) -> None:
    code, out, err = cli("classify", tmp_path / "missing.png", "-c", "red,blue", "-b", toy_bundle)
    assert (code, out) == (2, "")
    assert "missing.png" in err
