"""`twinlens index snapshot` with the toy bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_a_snapshot_answers_like_the_collection(cli: Run, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "backup" / "photos.index"
    code, text, err = cli("index", "snapshot", built, out, "--json")
    assert code == 0, err
    assert (json.loads(text)["items"], json.loads(text)["copied"]) == (3, 0)
    ask = ("red", "--json")
    assert cli("search", out, *ask)[1] == cli("search", built, *ask)[1]
    code, _, err = cli("index", "snapshot", built, out)
    assert (code, "is not an empty folder" in err) == (2, True)
    code, _, err = cli("index", "snapshot", built, tmp_path / "other", "--copy")
    assert (code, "3 items of commit" in err, "0 files linked" in err) == (0, True, True)
