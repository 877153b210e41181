"""Brace lists name shards in order; what is not there or means nothing is told."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.training.family import write_images
from twinlens.errors import InputError, NotFoundError
from twinlens.training.data.braces import expand_braces
from twinlens.training.data.sources import open_source


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("s-{08..11}.tar", ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]),
        ("{b,a}/{1..2}.tar", ["b/1.tar", "b/2.tar", "a/1.tar", "a/2.tar"]),
        ("x{,-more}.tar", ["x.tar", "x-more.tar"]),
        ("{9..10}", ["9", "10"]),
    ],
)
def test_a_list_stands_for_its_names_in_order(text: str, names: list[str]) -> None:
    assert expand_braces(text) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [("{a}.tar", "neither a range"), ("{3..1}.tar", "must rise"), ("{}.tar", "neither a range"),
     ("{0..99999999}.tar", "at most 1000000 numbers"), ("{0..9999}{0..9999}", "more than 1000000")],
)  # fmt: skip
def test_a_list_that_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        expand_braces(text)


def test_shards_named_by_braces_are_read_in_order(tmp_path: Path) -> None:
    images = sorted(write_images(tmp_path / "images", 6).rglob("*.png"))
    for shard in range(3):
        with tarfile.open(tmp_path / f"s-{shard:03}.tar", "w") as tar:
            for number in range(2):
                tar.add(images[2 * shard + number], f"{shard}{number}.png")
    source = open_source(f"{tmp_path}/s-{{001..002}}.tar")
    assert [record.key for record in source.records] == [
        "s-001.tar/10", "s-001.tar/11", "s-002.tar/20", "s-002.tar/21",
    ]  # fmt: skip
    assert source.read(0) == images[2].read_bytes()
    with pytest.raises(NotFoundError, match=r"2 of its 5 files do not exist, the first.*s-003"):
        open_source(f"{tmp_path}/s-{{000..004}}.tar")
    (tmp_path / "s-a.zip").write_bytes(b"")
    with pytest.raises(InputError, match=r"a brace list is for \.tar shards"):
        open_source(f"{tmp_path}/s-{{a,a}}.zip")
