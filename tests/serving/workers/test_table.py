"""The table of what a server serves, as its processes tell one another."""

from __future__ import annotations

import orjson

from twinlens.serving.workers.table import ModelTable, ServedEntry, make_entry, make_keys


def make_served(name: str) -> ServedEntry:
    keys = make_keys(name, ("fp32", "int8"))
    told = {precision: {"key": key, "revision": "r"} for precision, key in keys.items()}
    return make_entry(name, f"/bundles/{name}", [told, told])


def test_a_table_is_read_as_it_was_written() -> None:
    table = ModelTable((make_served("a"), make_served("b")))
    assert ModelTable.parse(orjson.loads(orjson.dumps(table.write()))) == table


def test_a_new_bundle_takes_the_place_of_its_name_or_comes_last() -> None:
    table = ModelTable((make_served("a"), make_served("b")))
    new = make_served("a")
    replaced = table.replace(new)
    assert replaced.names == ["a", "b"]
    assert replaced.entries[0] is new
    assert table.replace(make_served("c")).names == ["a", "b", "c"]
    assert table.remove("a").names == ["b"]
    assert table.remove("x") == table


def test_each_opening_has_keys_of_its_own() -> None:
    first, second = make_served("a"), make_served("a")
    assert len(ModelTable((first, second)).keys) == 4
