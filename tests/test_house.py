"""The rooms stay as drawn: no torch where it must not be, and a contract that bites."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import time
from graphlib import CycleError
from pathlib import Path

import pytest

from docs import draw_map
from docs.tree import PACKAGE, Tree, measure_heights

ROOT = Path(__file__).resolve().parent.parent
FITTING = "twinlens.bundle.pull.fitting"
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


def run_python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment
    )


def list_modules(room: str) -> list[str]:
    files = sorted((ROOT / "twinlens" / room).rglob("*.py"))
    dotted = [file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for file in files]
    return [name.removesuffix(".__init__") for name in dotted]


@pytest.mark.parametrize("room", ["serving", "index", "bundle"])
def test_every_module_of_a_serving_room_imports_without_torch(room: str) -> None:
    """But for what fits a pulled model's graphs: it needs onnx, and is imported by a pull alone."""
    names = [name for name in list_modules(room) if not name.startswith(FITTING)]
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


def test_the_help_is_quick_and_loads_no_room(tmp_path: Path) -> None:
    """With the compiled modules that an installed Python keeps: the first call writes them."""
    kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    code = (
        "import sys, time; t = time.process_time()\n"
        "from twinlens.cli.main import build_app\n"
        "try: build_app()(['--help'])\n"
        "except SystemExit: pass\n"
        "loaded = {'numpy', 'onnxruntime', 'fastapi', 'torch'} & set(sys.modules)\n"
        "print('seconds', time.process_time() - t, 'loaded', sorted(loaded))\n"
    )
    lines = [run_python(code, **kept).stdout.strip().splitlines()[-1].split() for _ in range(4)]
    assert min(float(line[1]) for line in lines) < 0.4
    assert lines[0][3:] == ["[]"]


# (file, a bad import in it, what the contract's report must name)
BAD_IMPORTS = [
    ("serving/__init__.py", "import torch", "twinlens.serving -> torch"),
    ("bundle/store.py", "def late() -> None:\n    import torch", "twinlens.bundle.store -> torch"),
    (
        "bundle/pull/convert.py",
        "def late() -> None:\n    import onnx",
        "twinlens.bundle.pull.convert -> onnx",
    ),
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
    (
        "training/suites/sheet.py",
        "import twinlens.training.seeds",
        "twinlens.training.seeds -> torch",
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


def test_imports_go_in_no_circle(tree: Tree) -> None:
    """Imports inside functions count: two modules that need each other are one module."""
    assert set(measure_heights(tree.imports)) == set(tree.modules)


@pytest.mark.parametrize(
    "text",
    [
        "from twinlens.a import y",
        "def late():\n    from . import y",
        "import twinlens.a.y as other",
    ],
)
def test_a_circle_is_found_however_it_is_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "twinlens" / "a").mkdir(parents=True)
    (tmp_path / "twinlens" / "a" / "__init__.py").touch()
    (tmp_path / "twinlens" / "a" / "x.py").write_text(text + "\n")
    (tmp_path / "twinlens" / "a" / "y.py").write_text("from twinlens.a.x import thing\n")
    with pytest.raises(CycleError, match=r"twinlens\.a\.x"):
        measure_heights(Tree(PACKAGE, root=tmp_path).imports)


def test_a_folder_holds_at_most_twenty_modules(tree: Tree) -> None:
    """But for the folders that are lists: a module for each method."""
    counts = {m.name: len(tree.files_in(m.name)) for m in tree.modules.values() if m.is_package}
    assert {n: c for n, c in counts.items() if c > 20 and n not in draw_map.LISTS} == {}


def test_a_module_has_at_most_three_hundred_lines(tree: Tree) -> None:
    lengths = {n: m.path.read_text("utf-8").count("\n") for n, m in tree.modules.items()}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_nine_functions_in_ten_have_at_most_twenty_lines(tree: Tree) -> None:
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for module in tree.modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[int(0.9 * len(lengths))] <= 20


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
