"""The rooms stay as drawn: no torch where it must not be, and a contract that bites."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("serving/__init__.py", "import torch", "never reach torch BROKEN"),
        ("bundle/store.py", "def late() -> None:\n    import torch", "never reach torch BROKEN"),
        ("bundle/store.py", "import twinlens.serving", "depend downwards only BROKEN"),
        ("training/__init__.py", "import twinlens.serving", "depend downwards only BROKEN"),
        (
            "training/nn/__init__.py",
            "import twinlens.training.loop",
            "training's sub-rooms depend downwards only BROKEN",
        ),
        ("training/views/__init__.py", "import recipes", "the repository's recipes BROKEN"),
    ],
)
def test_the_import_contract_bites(tmp_path: Path, file: str, line: str, broken: str) -> None:
    """A copy of the house with one bad import must fail the contract that `make check` runs."""
    ignore = shutil.ignore_patterns("__pycache__", "builtin")
    shutil.copytree(ROOT / "twinlens", tmp_path / "twinlens", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "twinlens" / file).open("a") as target:
        target.write(f"\n{line}\n")
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [lint, "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode == 1
    assert broken in result.stdout


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
