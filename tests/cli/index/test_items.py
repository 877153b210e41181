"""`twinlens index add`, `remove` and `list` with the toy bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from twinlens.index.collection import Collection

Run = Callable[..., tuple[int, str, str]]


def list_ids(cli: Run, folder: Path, *options: object) -> list[str]:
    code, text, err = cli("index", "list", folder, *options)
    assert code == 0, err
    return [json.loads(line)["id"] for line in text.splitlines()]


def test_another_folder_is_added_and_nothing_is_deleted(
    cli: Run, built: Path, tmp_path: Path, squares: dict[str, bytes]
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "crimson.png").write_bytes(squares["red"])
    before = list_ids(cli, built)
    code, text, err = cli("index", "add", built, more, "--json")
    assert code == 0, err
    assert (json.loads(text)["embedded"], json.loads(text)["removed"]) == (1, 0)
    assert list_ids(cli, built) == [*before, "crimson.png"]
    code, _, err = cli("index", "build", more, "-o", built)
    assert (code, "several corpora" in err) == (2, True)


def test_adding_to_no_collection_is_refused(cli: Run, photos: Path, tmp_path: Path) -> None:
    code, _, err = cli("index", "add", tmp_path / "none", photos)
    assert (code, "is not a collection" in err) == (2, True)


def test_items_are_removed_by_id(cli: Run, built: Path) -> None:
    code, text, err = cli("index", "remove", built, "red.png", "pink.png", "--json")
    assert code == 0, err
    assert json.loads(text) == {"count": 2, "deleted": 1}
    assert "1 of the 2 ids are not in" in err
    assert list_ids(cli, built) == ["blue.png", "green.png"]


def test_items_are_removed_by_filter_after_a_look(cli: Run, built: Path) -> None:
    remove = ("index", "remove", built, "--where", 'path contains "red"')
    code, text, _ = cli(*remove, "--dry-run", "--json")
    assert (code, json.loads(text)) == (0, {"count": 3, "would_be_deleted": 1})
    code, _, err = cli(*remove)
    assert (code, "Delete 1 of 3 items" in err, "--yes" in err) == (2, True, True)
    assert len(list_ids(cli, built)) == 3
    code, _, err = cli(*remove, "--yes")
    assert (code, "1 items deleted, 2 in the collection" in err) == (0, True)
    assert list_ids(cli, built, "--where", 'path contains "red"') == []


def test_more_than_the_limit_is_not_removed(cli: Run, built: Path) -> None:
    remove = ("index", "remove", built, "--where", "has path", "--yes")
    code, _, err = cli(*remove, "--max-delete", 2)
    assert (code, "3 of 3 items match; at most 2 may be deleted" in err) == (2, True)
    assert len(list_ids(cli, built)) == 3
    assert cli(*remove)[0] == 0  # ten or fewer are within the default
    assert list_ids(cli, built) == []


@pytest.mark.parametrize("options", [(), ("red.png", "--where", "has path")])
def test_removal_needs_either_ids_or_a_filter(
    cli: Run, built: Path, options: tuple[str, ...]
) -> None:
    code, _, err = cli("index", "remove", built, *options)
    assert (code, "either ids or --where" in err) == (2, True)


@pytest.mark.parametrize("command", [("remove", "--yes"), ("list",)])
def test_a_misspelt_field_is_refused(cli: Run, built: Path, command: tuple[str, ...]) -> None:
    code, _, err = cli("index", command[0], built, "--where", "pth != 1", *command[1:])
    assert (code, "the fields are: path" in err) == (2, True)


def test_a_listing_is_paged_in_a_stable_order(cli: Run, built: Path) -> None:
    everything = list_ids(cli, built)
    assert sorted(everything) == ["blue.png", "green.png", "red.png"]
    pages = [list_ids(cli, built, "--offset", at, "--limit", 1) for at in range(4)]
    assert pages == [[everything[0]], [everything[1]], [everything[2]], []]
    with Collection(built) as collection:
        line = json.loads(cli("index", "list", built, "--limit", 1)[1])
        assert line == {"id": everything[0], "metadata": collection.get(everything[0]).metadata}
