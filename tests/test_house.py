"""The rooms stay as drawn: no torch where it must not be, and a contract that bites."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from docs import draw_map, mirror
from docs.tree import PACKAGE, Tree, list_rooms

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = ("torch", "torchvision", "onnx", "onnxscript", "triton", "open_clip", "timm")

# Makes each forbidden library fail to import, wherever and however late somebody tries.
_BLOCK = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FORBIDDEN!r}:
            raise ImportError(f"{{name}} must not be imported here")
sys.meta_path.insert(0, Block())
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment
    )


def list_modules(room: str) -> list[str]:
    files = sorted((ROOT / "twinlens" / room).rglob("*.py"))
    dotted = [file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for file in files]
    return [name.removesuffix(".__init__") for name in dotted]


@pytest.mark.parametrize("room", ["serving", "index", "bundle"])
def test_every_module_of_a_serving_room_imports_without_torch(room: str) -> None:
    names = list_modules(room)
    result = run_python(_BLOCK + "".join(f"import {name}\n" for name in names))
    assert result.returncode == 0, result.stderr


def test_a_bundle_embeds_without_torch(toy_bundle: Path) -> None:
    code = _BLOCK + (
        "import twinlens\n"
        f"encoder = twinlens.open_bundle({str(toy_bundle)!r})\n"
        "print(encoder.embed_texts(['red']).shape, encoder.check().count)\n"
    )
    result = run_python(code)
    assert result.stdout.split("\n")[0] == "(1, 16) 7", result.stderr


def test_importing_the_package_is_quick() -> None:
    """At most 0.3 s, measured inside the process: starting Python is not ours to hasten."""
    code = "import time; t = time.process_time(); import twinlens; print(time.process_time() - t)"
    assert min(float(run_python(code).stdout) for _ in range(3)) < 0.3


def test_the_help_is_quick_and_loads_no_room() -> None:
    code = (
        "import sys, time; t = time.process_time()\n"
        "from twinlens.cli.main import build_app\n"
        "try: build_app()(['--help'])\n"
        "except SystemExit: pass\n"
        "loaded = {'numpy', 'onnxruntime', 'fastapi', 'torch'} & set(sys.modules)\n"
        "print('seconds', time.process_time() - t, 'loaded', sorted(loaded))\n"
    )
    lines = [run_python(code).stdout.strip().splitlines()[-1].split() for _ in range(3)]
    assert min(float(line[1]) for line in lines) < 0.5
    assert lines[0][3:] == ["[]"]


# (file, a bad import in it, what the contract's report must name)
BAD_IMPORTS = [
    ("serving/__init__.py", "import torch", "twinlens.serving -> torch"),
    ("bundle/store.py", "def late() -> None:\n    import torch", "twinlens.bundle.store -> torch"),
    ("bundle/graph.py", "import twinlens.serving", "twinlens.bundle.graph -> twinlens.serving"),
    (
        "bundle/classes.py",
        "import twinlens.bundle.store",
        "bundle.classes -> twinlens.bundle.store",
    ),
    ("cli/options.py", "import twinlens.cli.index", "twinlens.cli.options -> twinlens.cli.index"),
    ("training/seeds.py", "import twinlens.serving", "twinlens.training.seeds -> twinlens.serving"),
    ("training/config.py", "import recipes", "twinlens.training.config -> recipes"),
    (
        "training/nn/heads.py",
        "import twinlens.training.loop",
        "twinlens.training.nn.heads -> twinlens.training.loop",
    ),
    ("client/plans.py", "import torch", "twinlens.client.plans -> torch"),
    ("client/meter.py", "import onnxruntime", "twinlens.client.meter -> onnxruntime"),
    ("client/plans.py", "import twinlens.serving", "twinlens.client.plans -> twinlens.serving"),
    ("client/meter.py", "import twinlens.kernels", "twinlens.client.meter -> twinlens.kernels"),
    ("demo/corpus.py", "import twinlens.bundle", "twinlens.demo.corpus -> twinlens.bundle"),
    ("serving/engine/cache.py", "import starlette", "twinlens.serving.engine.cache -> starlette"),
    (
        "serving/keys.py",
        "import twinlens.serving.app",
        "twinlens.serving.keys -> twinlens.serving.app",
    ),
    (
        "index/query/query.py",
        "import twinlens.index.writer",
        "twinlens.index.query.query -> twinlens.index.writer",
    ),
    ("index/storage/lock.py", "import faiss", "twinlens.index.storage.lock -> faiss"),
]


@pytest.fixture(scope="module")
def report_on_bad_imports(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `make contract` says of a copy of the house with the bad imports in it."""
    copy = tmp_path_factory.mktemp("house")
    ignore = shutil.ignore_patterns("__pycache__", "builtin")
    shutil.copytree(ROOT / "twinlens", copy / "twinlens", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for file, line, _ in BAD_IMPORTS:
        with (copy / "twinlens" / file).open("a", encoding="utf-8") as target:
            target.write(f"\n{line}\n")
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=copy,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(copy)},
    )
    assert result.returncode == 1
    return result.stdout


@pytest.mark.parametrize("named", [named for _, _, named in BAD_IMPORTS])
def test_the_import_contract_bites(report_on_bad_imports: str, named: str) -> None:
    assert f"{named} (l." in report_on_bad_imports


def test_no_contract_is_without_a_bad_import_that_breaks_it(report_on_bad_imports: str) -> None:
    assert "BROKEN" in report_on_bad_imports
    assert [line for line in report_on_bad_imports.splitlines() if line.endswith("KEPT")] == []


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


def test_no_module_lacks_its_opening_words() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "twinlens").rglob("*.py")
        if not path.read_text(encoding="utf-8").startswith('"""')
    ]
    assert silent == []


def test_the_clock_of_these_tests_is_cpu_time() -> None:
    """The limits above count CPU seconds: on a shared machine wall time says little."""
    start = time.process_time()
    time.sleep(0.02)
    assert time.process_time() - start < 0.02
