"""Write the map of the source tree into `docs/architecture.md`: folders, then every module.

    python docs/draw_map.py            # rewrites what stands between the page's markers

What must stay true: each line is the first line of a module's docstring, so that the map says what
the files say; each module stands in it once.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs.tree import PACKAGE, ROOT, Module, Tree, list_rooms

PAGE = ROOT / "docs" / "architecture.md"
FACTORY = "recipes.builtin"  # beside the package
# Folders that are lists: a module for each method. The docs/methods.md page tells them apart.
LISTS = ("twinlens.training.objectives", "twinlens.training.recipes")


def draw_folders(tree: Tree) -> str:
    """Return a table for each room: its folders with what each is for, then its own modules."""
    return "\n".join(line for room in _list_tops(tree) for line in _draw_room(tree, room))


def draw_modules(tree: Tree) -> str:
    """Return a folded table for each room: every module with what it is for."""
    return "\n".join(line for room in _list_tops(tree) for line in _fold_room(tree, room))


def read_map(text: str, name: str) -> str:
    """Return what stands between the markers of a part of the page."""
    return _split(text, name)[1].strip("\n")


def write_map(text: str, tree: Tree) -> str:
    """Return the page with both parts made anew."""
    for name, draw in PARTS.items():
        before, _, after = _split(text, name)
        text = f"{before}\n{draw(tree)}\n{after}"
    return text


PARTS = {"folders": draw_folders, "modules": draw_modules}


def _split(text: str, name: str) -> tuple[str, str, str]:
    start, end = f"<!-- {name}: made by python docs/draw_map.py -->\n", f"\n<!-- end of {name} -->"
    before, _, rest = text.partition(start)
    inside, _, after = rest.partition(end)
    return before + start, inside, end + after


def _list_tops(tree: Tree) -> list[Module]:
    rooms = [tree.modules[f"{PACKAGE}.{room}"] for room in list_rooms(tree)]
    return [*rooms, tree.modules[FACTORY]]


def _draw_room(tree: Tree, room: Module) -> Iterator[str]:
    yield f"| `{_place(room)}/` | {_cell(room)} |"
    yield "|---|---|"
    for folder in _list_folders(tree, room):
        yield f"| `{_short(folder, room)}/` | {_cell(folder)} |"
    for data in _list_data_folders(tree, room):
        yield f"| `{data.name}/` | {_count_files(data)} |"
    if own := tree.files_in(room.name):
        yield f"| modules | {', '.join(f'`{module.stem}`' for module in own)} |"
    yield ""


def _fold_room(tree: Tree, room: Module) -> Iterator[str]:
    modules = [m for folder in [room, *_list_folders(tree, room)] for m in _rows(tree, folder)]
    yield f"<details markdown>\n<summary><code>{_place(room)}/</code></summary>\n"
    yield "| module | what it is for |"
    yield "|---|---|"
    for names, what in modules:
        yield f"| {names} | {what} |"
    yield "\n</details>\n"


def _rows(tree: Tree, folder: Module) -> Iterator[tuple[str, str]]:
    """Yield the modules of a folder, one a row, or in one row where the folder is a list."""
    files = tree.files_in(folder.name)
    if folder.name in LISTS:
        yield f"`{_place(folder)}/`", ", ".join(f"`{module.stem}`" for module in files)
        return
    for module in files:
        yield f"`{_place(module)}`", _cell(module)


def _list_folders(tree: Tree, room: Module) -> list[Module]:
    """Return the packages of a room, those within others after them."""
    return [m for m in tree.modules.values() if m.is_package and m.name.startswith(f"{room.name}.")]


def _list_data_folders(tree: Tree, room: Module) -> list[Path]:
    """Return the folders of a room that hold no Python."""
    folders = [path for path in sorted(room.path.parent.iterdir()) if path.is_dir()]
    return [path for path in folders if path.name != "__pycache__" and not [*path.rglob("*.py")]]


def _count_files(folder: Path) -> str:
    kinds = Counter(path.suffix for path in folder.iterdir())
    return "files: " + ", ".join(f"{count} `{kind}`" for kind, count in sorted(kinds.items()))


def _place(module: Module) -> str:
    """Return where it lies, below the package."""
    return module.name.removeprefix(f"{PACKAGE}.").replace(".", "/")


def _short(folder: Module, room: Module) -> str:
    return folder.name.removeprefix(f"{room.name}.").replace(".", "/")


def _cell(module: Module) -> str:
    return module.summary.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    page = write_map(PAGE.read_text(encoding="utf-8"), Tree(PACKAGE, "recipes"))
    PAGE.write_text(page, encoding="utf-8")
