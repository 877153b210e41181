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
