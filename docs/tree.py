"""What the source tree says of itself: its modules, their summaries, who imports whom.

The map, the drawing of the rooms and the rules of `tests/test_{house,map,names}.py` are made from
this. What must stay true: everything is read from the files; nothing is imported, and nothing is
listed by hand.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "twinlens"


@dataclass(frozen=True)
class Module:
    """One Python file; a package is the module of its `__init__.py`."""

    name: str
    path: Path

    @property
    def is_package(self) -> bool:
        """Return whether this is the `__init__` of a folder."""
        return self.path.name == "__init__.py"

    @property
    def package(self) -> str:
        """Return the name of the folder that the file lies in."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @property
    def stem(self) -> str:
        """Return the last part of the name."""
        return self.name.rpartition(".")[2]

    @cached_property
    def tree(self) -> ast.Module:
        """Return what the file holds."""
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @property
    def summary(self) -> str:
        """Return the first line of its docstring."""
        return " ".join((ast.get_docstring(self.tree) or "").partition("\n\n")[0].split())


class Tree:
    """The modules below some folders of a root, by their dotted names."""

    def __init__(self, *folders: str, root: Path = ROOT) -> None:
        self.root = root
        paths = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
        self.modules = {name: Module(name, path) for path in paths for name in [self._name(path)]}

    def _name(self, path: Path) -> str:
        dotted = path.relative_to(self.root).with_suffix("").as_posix().replace("/", ".")
        return dotted.removesuffix(".__init__")

    def packages_in(self, package: str) -> list[Module]:
        """Return the packages directly below one."""
        return [module for module in self._children(package) if module.is_package]

    def files_in(self, package: str) -> list[Module]:
        """Return the modules that lie in a package's folder, but for its `__init__`."""
        return [module for module in self._children(package) if not module.is_package]

    def _children(self, package: str) -> list[Module]:
        return [m for name, m in self.modules.items() if name.rpartition(".")[0] == package]

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Return the modules that each module imports, inside functions too."""
        return {name: self._imports_of(module) for name, module in self.modules.items()}

    @cached_property
    def named(self) -> dict[str, set[str]]:
        """Return the modules that each module names in a string, to import them when needed."""
        return {
            name: {text for node in ast.walk(module.tree) for text in _texts(node)}
            & set(self.modules)
            for name, module in self.modules.items()
        }

    def _imports_of(self, module: Module) -> set[str]:
        found = set()
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= self._imported_from(module, node)
        return {name for name in found if name in self.modules} - {module.name}

    def _imported_from(self, module: Module, node: ast.ImportFrom) -> set[str]:
        """Return what `from X import a, b` imports: X.a where that is a module, else X."""
        base = node.module or ""
        if node.level:
            parts = module.package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1])
            base = f"{above}.{base}" if base else above
        names = {f"{base}.{alias.name}" for alias in node.names}
        return {name if name in self.modules else base for name in names}


def _texts(node: ast.AST) -> list[str]:
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def room_of(name: str) -> str:
    """Return the room of a module of the package: `twinlens.index.ann.recall` lies in `index`."""
    return name.split(".")[1] if name.count(".") else ""


def read_rooms(tree: Tree) -> dict[str, set[str]]:
    """Return the rooms that each room imports; the single files beside them are no rooms."""
    rooms = {package.stem for package in tree.packages_in(PACKAGE)}
    found: dict[str, set[str]] = {room: set() for room in sorted(rooms)}
    for name, imported in tree.imports.items():
        if room_of(name) in rooms:
            found[room_of(name)] |= {room_of(other) for other in imported} & rooms
    return {room: others - {room} for room, others in found.items()}


def measure_heights(imports: Mapping[str, set[str]]) -> dict[str, int]:
    """Return how high each stands above those that import nothing: one more than what it imports.

    Raises `graphlib.CycleError` where imports go in a circle, with the circle in it.
    """
    heights: dict[str, int] = {}
    for name in TopologicalSorter(imports).static_order():
        heights[name] = 1 + max((heights[other] for other in imports[name]), default=-1)
    return heights


def list_rooms(tree: Tree) -> list[str]:
    """Return the rooms, those that import before those that are imported."""
    heights = measure_heights(read_rooms(tree))
    return sorted(heights, key=lambda room: (-heights[room], room))


def list_importers(tree: Tree, folder: str) -> set[str]:
    """Return who imports a folder within a room: parts of the same room, and other rooms."""
    room = room_of(folder)
    found = set()
    for name in (name for name in tree.modules if name.startswith(f"{PACKAGE}.")):
        below = tree.imports[name] | tree.named[name]
        is_inside = f"{name}.".startswith(f"{folder}.")
        if not is_inside and any(f"{other}.".startswith(f"{folder}.") for other in below):
            found.add(name.split(".")[2] if room_of(name) == room else room_of(name))
    return found - {room, ""}
