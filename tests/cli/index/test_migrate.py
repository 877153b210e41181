"""`twinlens index migrate`, and what other commands make of an address."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.stores.places import REAL, find_uri

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.scale
@pytest.mark.parametrize("kind", REAL)
def test_a_collection_goes_to_a_store_is_searched_there_and_comes_back(
    cli: Run, built: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    uri = find_uri(kind, request, tmp_path)
    code, out, err = cli("index", "migrate", built, uri, "--kind", "ivf-sq8", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["count"], told["written"]) == (3, 3)
    assert told["recall"] == {"image": 1.0, "text": 1.0}
    code, out, err = cli("search", uri, "red", "-k", 1, "--json")
    assert (code, json.loads(out)[0]["id"]) == (0, "red.png"), err
    code, out, err = cli("index", "stats", uri, "--json")
    assert (code, json.loads(out)["exact"]) == (0, False), err
    code, out, err = cli("index", "remove", uri, "blue.png", "--json")
    assert (code, json.loads(out)) == (0, {"count": 2, "deleted": 1}), err
    assert cli("index", "migrate", uri, tmp_path / "back.index")[0] == 0
    code, out, _ = cli("index", "list", tmp_path / "back.index")
    assert sorted(json.loads(line)["id"] for line in out.splitlines()) == ["green.png", "red.png"]
    code, _, err = cli("search", uri.replace("collection=", "collection=no_"), "red")
    assert (code, "twinlens index migrate DIR URI" in err) == (2, True)


def test_a_folder_is_copied_to_a_folder(cli: Run, built: Path, tmp_path: Path) -> None:
    code, out, err = cli("index", "migrate", built, tmp_path / "copy.index", "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "count": 3,
        "written": 3,
        "unchanged": 0,
        "recall": {"image": 1.0, "text": 1.0},
    }
    assert json.loads(cli("search", tmp_path / "copy.index", "red", "--json")[1])[0]["id"] == (
        "red.png"
    )


def test_an_unknown_kind_of_store_is_refused(cli: Run, built: Path) -> None:
    code, _, err = cli("index", "migrate", built, "redis://here")
    assert (code, "use postgresql:// or milvus://" in err) == (2, True)
