"""`twinlens train` and `twinlens eval`, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.family import write_images
from twinlens.cli.main import run
from twinlens.training.objectives import find_method
from twinlens.training.recipes import describe_methods, list_recipes
from twinlens.training.runs.checkpoints import find_checkpoint

SMALL = ["--set", "encoder=vit-nano/4", "--set", "image_size=16", "--set", "batch=8"]


def type_in(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        run(list(arguments))
    return int(stop.value.code or 0)


def test_a_folder_becomes_an_evaluated_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = str(write_images(tmp_path / "data", 30)), str(tmp_path / "run")
    assert type_in("train", "simclr", data, "--out", out, *SMALL, "--set", "steps=3") == 0
    assert "trained simclr for 3 steps" in capsys.readouterr().out
    assert type_in("eval", out, data, "--json") == 0
    assert json.loads(capsys.readouterr().out)["knn"] > 50


def test_list_prints_a_line_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert type_in("train", "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("simclr") and "cifar10" in line for line in lines)


WITHOUT_TORCH = """
import sys, time
for name in ("torch", "torchvision", "timm", "open_clip", "onnx", "safetensors"):
    sys.modules[name] = None
from twinlens.cli.main import run
try:
    run(sys.argv[1:])
finally:
    print(time.process_time(), file=sys.stderr)
"""


def type_without_torch(*arguments: str) -> tuple[int, str, list[str]]:
    """Return exit code, output and lines of errors; the last one is CPU seconds."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_list_needs_no_torch_and_half_a_second() -> None:
    code, out, errors = type_without_torch("train", "--list")
    assert code == 0
    assert out.splitlines() == describe_methods()
    assert float(errors[-1]) < 1.0  # 0.4 measured; machines differ


def test_the_list_is_what_the_methods_and_recipes_say() -> None:
    for line in describe_methods():
        name = line.split()[0]
        assert f"  {find_method(name).summary}  " in line
        assert line.endswith(f"[{', '.join(list_recipes(name))}]")


@pytest.mark.parametrize(
    "command",
    ["train simclr x -o y", "train simclr --show", "eval run x", "doctor run", "study head x -o y",
     "export timm:resnet18 -o y"],
)  # fmt: skip
def test_without_torch_each_command_says_so_in_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, errors = type_without_torch(*command.split())
    lines = [line for line in errors[:-1] if not line.startswith("[ ")]  # the export's stages
    assert (code, out, len(lines)) == (2, "", 1)
    assert "needs torch" in lines[0] or "needs onnx" in lines[0]
    assert "pip install 'twinlens[cpu,train]'" in lines[0]
    assert not any(tmp_path.iterdir())


def test_show_prints_the_resolved_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert type_in("train", "simclr", "--show", "--set", "lr=0.125") == 0
    assert json.loads(capsys.readouterr().out)["settings"]["lr"] == 0.125


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "simclrr", "x", "--out", "y"], "did you mean 'simclr'"),
        (["train", "simclr", "x", "--out", "y", "--set", "temperatur=1"], "did you mean"),
        (["train", "simclr", "nowhere", "--out", "y"], "nowhere does not exist"),
        (["train", "simclr", "x"], "--out RUN"),
        (["train"], "train --list"),
        (["train", "simclr", "x", "--out", "y", "--set", "temperature=0"], "must be above 0"),
        (["train", "simclr", "x", "--out", "y", "--set", "steps=-3"], "must be at least 0"),
        (["train", "simclr", "x", "--show", "--set", "batch=0"], "--set batch=256"),
        (["train", "simclr", "x", "--find-lr", "--set", "lr=-1"], "lr is -1"),
        (["study", "head", "x", "--out", "y", "--set", "batch=0"], "batch is 0"),
        (["train", "simclr", "x", "--out", "y", "--recipe", "z"], "it has default"),
        (["eval", "nowhere", "x"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert type_in(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_torchrun_divides_the_batch_and_only_one_rank_prints(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 30)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", "twinlens.cli.main", "train", "supcon", str(data)]
    command += ["--out", str(tmp_path / "run"), *SMALL, "--set", "steps=3", "--set", "device=cpu"]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.count("trained supcon for 3 steps") == 1
    assert find_checkpoint(tmp_path / "run/checkpoints") is not None


def test_the_builtin_recipe_is_not_listed_and_says_where_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "recipes", None)  # an installed wheel has none
    assert type_in("train", "--list") == 0
    assert "builtin" not in capsys.readouterr().out
    assert type_in("train", "clip", "x", "--out", "y", "--recipe", "builtin") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "make builtin" in error and "python -m recipes.builtin RUN" in error
