"""The map of the tree, the places that pages name, and the mirror of the tests are true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from docs import draw_map, mirror
from docs.tree import PACKAGE, Tree, list_importers, list_rooms, room_of

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(PACKAGE, "recipes")


def test_the_map_is_what_its_script_writes(tree: Tree) -> None:
    """`python docs/draw_map.py` makes it anew."""
    page = draw_map.PAGE.read_text(encoding="utf-8")
    assert draw_map.write_map(page, tree) == page


def test_every_module_stands_on_the_map_once(tree: Tree) -> None:
    """Counted from the files, not from what the script believes."""
    page = draw_map.PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/]+?)/?` \|", draw_map.read_map(page, "modules"), re.MULTILINE)
    lists = {name.removeprefix(f"{PACKAGE}.").replace(".", "/") for name in draw_map.LISTS}
    files = [
        path.relative_to(ROOT) for f in (PACKAGE, "recipes") for path in (ROOT / f).rglob("*.py")
    ]
    places = [path.with_suffix("").as_posix().removeprefix(f"{PACKAGE}/") for path in files]
    covered = {place for place in places if place.rpartition("/")[0] in lists}
    inside = [p for p in places if "/" in p and not p.endswith("/__init__") and p not in covered]
    assert sorted(rows) == sorted([*inside, *lists])


@pytest.mark.parametrize("part", ["folders", "modules"])
def test_a_map_that_misses_a_module_is_found_out(part: str, tree: Tree) -> None:
    page = draw_map.PAGE.read_text(encoding="utf-8")
    lines = draw_map.read_map(page, part).splitlines(keepends=True)
    worse = page.replace("".join(lines), "".join(lines[:3] + lines[4:]))
    assert worse != page
    assert draw_map.write_map(worse, tree) == page


def test_the_readme_names_every_room_and_no_other(tree: Tree) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    drawn = text.partition("## Repository layout")[2].partition("```text\n")[2].partition("```")[0]
    assert set(re.findall(r"^  (\w+)/ ", drawn, re.MULTILINE)) == set(list_rooms(tree))
    named = re.findall(r"(?:^|  )(\w+)/ ", drawn, re.MULTILINE)
    bases = (ROOT, ROOT / PACKAGE)
    assert [name for name in named if not any((base / name).is_dir() for base in bases)] == []


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "log.md"], ids=lambda p: p.stem)
def test_every_place_that_a_page_names_exists(page: Path, tree: Tree) -> None:
    """A place is `room/...` or `folder/...` in backticks; ROOM and NAME stand for any name."""
    tops = "|".join(
        [*list_rooms(tree), PACKAGE, "recipes", "tests", "benchmarks", "docs", "deploy"]
    )
    named = re.findall(rf"`((?:{tops})/[\w./]+)`", page.read_text(encoding="utf-8"))
    for place in named:
        place = re.split(r"/(?:ROOM|NAME|NNNN)", place)[0]
        paths = [base / place for base in (ROOT, ROOT / PACKAGE)]
        assert any(path.exists() or path.with_suffix(".py").exists() for path in paths), place


def test_every_test_file_lies_in_a_folder_that_the_source_has() -> None:
    places = {path.parent.relative_to(mirror.TESTS) for path in mirror.list_tests()}
    strange = [p for p in places if not any((b / p).is_dir() for b in (ROOT / PACKAGE, ROOT))]
    assert strange == []


def test_every_folder_that_holds_code_has_tests(tree: Tree) -> None:
    assert mirror.list_untested_folders(tree) == []


def test_a_test_file_is_named_after_a_module_or_says_what_it_is_about() -> None:
    silent = [
        path.relative_to(ROOT)
        for path in mirror.list_tests()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_a_folder_without_tests_and_a_module_without_its_own_are_found_out(tmp_path: Path) -> None:
    for place in (
        "twinlens/a/__init__.py",
        "twinlens/a/x.py",
        "twinlens/a/y.py",
        "twinlens/b/z.py",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    (tmp_path / "twinlens" / "b" / "__init__.py").touch()
    tests = tmp_path / "tests"
    (tests / "a").mkdir(parents=True)
    (tests / "a" / "test_x.py").touch()
    small = Tree(PACKAGE, root=tmp_path)
    assert mirror.list_untested_folders(small, tests) == ["twinlens.b"]
    own = {n: mirror.has_own_test(m, tests) for n, m in small.modules.items() if not m.is_package}
    assert own == {"twinlens.a.x": True, "twinlens.a.y": False, "twinlens.b.z": False}


def list_folders() -> list[str]:
    """Return every folder within a room."""
    modules = Tree(PACKAGE).modules.values()
    return [m.name for m in modules if m.is_package and m.name.count(".") > 1]


@pytest.mark.parametrize("folder", list_folders())
def test_a_folder_says_who_imports_it(folder: str, tree: Tree) -> None:
    """Its docstring ends in `Imported by:`, the parts of its room, and other rooms in backticks."""
    text = ast.get_docstring(tree.modules[folder].tree) or ""
    said = set(re.findall(r"\w+", text.partition("Imported by:")[2])) - {"and"}
    assert said == list_importers(tree, folder)
    others = set(re.findall(r"`(\w+)`", text.partition("Imported by:")[2]))
    assert others == {
        name for name in said if f"{PACKAGE}.{room_of(folder)}.{name}" not in tree.modules
    }
