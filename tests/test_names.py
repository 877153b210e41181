"""One word for one idea: the glossary holds, and no public name has two meanings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from docs import draw_map
from docs.tree import PACKAGE, Tree


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(PACKAGE, "recipes")


def read_glossary() -> list[tuple[str, str]]:
    """Return the words of the glossary with the module where each lives."""
    text = draw_map.PAGE.read_text(encoding="utf-8").partition("## Glossary")[2]
    return re.findall(r"^\| ([\w ]+) \| .* \| `([\w/]+)` \|$", text, re.MULTILINE)


@pytest.mark.parametrize(("word", "place"), read_glossary())
def test_a_word_of_the_glossary_stands_where_it_says(word: str, place: str, tree: Tree) -> None:
    module = tree.modules[f"{PACKAGE}.{place.replace('/', '.')}"]
    text = module.path.read_text(encoding="utf-8").lower()
    assert re.search(rf"\b{word.removesuffix('s')}", text)


def test_the_glossary_is_read_whole() -> None:
    text = draw_map.PAGE.read_text(encoding="utf-8").partition("## Glossary")[2].partition("## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(read_glossary()) == len(rows) - 1 > 10


def test_no_public_class_name_stands_twice(tree: Tree) -> None:
    assert find_twice(list_classes(tree)) == {}


def test_no_alias_of_a_type_has_two_meanings(tree: Tree) -> None:
    meanings: dict[str, set[str]] = {}
    for name, _, meaning in list_aliases(tree):
        meanings.setdefault(name, set()).add(meaning)
    named = set(meanings) & {name for name, _ in list_classes(tree)}
    assert {name: sorted(found) for name, found in meanings.items() if len(found) > 1} == {}
    assert named == set()


def list_classes(tree: Tree) -> list[tuple[str, str]]:
    """Return the public classes of the package with their modules."""
    return [
        (node.name, name)
        for name, module in tree.modules.items()
        if name.startswith(PACKAGE)
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


def list_aliases(tree: Tree) -> list[tuple[str, str, str]]:
    """Return the type aliases of the package: name, module, and what it stands for.

    An alias is a name in CamelCase that a module gives to an expression.
    """
    return [
        (target.id, name, ast.unparse(node.value).replace("npt.", ""))
        for name, module in tree.modules.items()
        if name.startswith(PACKAGE)
        for node in module.tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and re.fullmatch(r"[A-Z]+[a-z]\w*", target.id)
    ]


def find_twice(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names that stand more than once, with their places."""
    places: dict[str, list[str]] = {}
    for name, place in pairs:
        places.setdefault(name, []).append(place)
    return {name: found for name, found in places.items() if len(found) > 1}


def test_a_name_that_stands_twice_is_found(tmp_path: Path) -> None:
    (tmp_path / "twinlens").mkdir()
    (tmp_path / "twinlens" / "a.py").write_text("class Part: ...\nRows = list[int]\n")
    (tmp_path / "twinlens" / "b.py").write_text("class Part: ...\nRows = list[str]\n")
    small = Tree(PACKAGE, root=tmp_path)
    assert find_twice(list_classes(small)) == {"Part": ["twinlens.a", "twinlens.b"]}
    assert {meaning for _, _, meaning in list_aliases(small)} == {"list[int]", "list[str]"}
