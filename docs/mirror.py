"""How the tests mirror the source: which module has a test file of its own, and which has none.

    python docs/mirror.py

`tests/A/B/test_x.py` is the test of `twinlens/A/B/x.py`, or of `recipes/...`; a file of any other
name is a scenario that crosses modules. What must stay true: a module without a file of its own is
tested through the scenarios of its folder, so every folder that holds code has tests.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs.tree import PACKAGE, ROOT, Module, Tree

TESTS = ROOT / "tests"


def list_tests(folder: Path = TESTS) -> list[Path]:
    """Return every test file."""
    return sorted(folder.rglob("test_*.py"))


def place_of(module: Module) -> str:
    """Return where its tests lie, below `tests`: `index/ann` for `twinlens.index.ann.recall`."""
    return module.package.removeprefix(PACKAGE).removeprefix(".").replace(".", "/")


def has_own_test(module: Module, tests: Path = TESTS) -> bool:
    """Return whether a test file bears its name."""
    return (tests / place_of(module) / f"test_{module.stem}.py").is_file()


def list_untested_folders(tree: Tree, tests: Path = TESTS) -> list[str]:
    """Return the folders with code that have neither a folder of tests nor a test file."""
    return [module.name for module in _list_folders(tree) if not _has_tests(module, tests)]


def _list_folders(tree: Tree) -> Iterator[Module]:
    for module in tree.modules.values():
        if module.is_package and tree.files_in(module.name):
            yield module


def _has_tests(folder: Module, tests: Path) -> bool:
    place = tests / place_of(folder)
    return bool([*place.glob("test_*.py")]) or place.with_name(f"test_{folder.stem}.py").is_file()


def tell() -> str:
    """Return the count, then the modules that are tested through scenarios alone, by folder."""
    tree = Tree(PACKAGE, "recipes")
    modules = [module for module in tree.modules.values() if not module.is_package]
    without: dict[str, list[str]] = {}
    for module in modules:
        if not has_own_test(module):
            without.setdefault(place_of(module) or PACKAGE, []).append(module.stem)
    count = len(modules) - sum(map(len, without.values()))
    lines = [f"modules with a test file of their own: {count} of {len(modules)}; the others:"]
    return "\n".join(
        [*lines, *(f"  {place}: {', '.join(names)}" for place, names in without.items())]
    )


if __name__ == "__main__":
    sys.stdout.write(tell() + "\n")
