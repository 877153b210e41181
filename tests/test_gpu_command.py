"""The one command for a CUDA machine: its parts, its budget, its Markdown."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The command, with scripts of its own in a folder of its own."""
    spec = importlib.util.spec_from_file_location("gpu_command", FOLDER / "__main__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def write_script(folder: Path, name: str, last: str = "") -> None:
    (folder / name).write_text(
        "import json, sys, time\n"
        "path = sys.argv[sys.argv.index('--json') + 1]\n"
        "bars = {'a bar': {'value': 2.0, 'target': 1.0, 'holds': True}}\n"
        "rows = [{'what': 'a|b', 'items_a_second': 1234.5, 'asked': ' '.join(sys.argv[3:])}]\n"
        "json.dump({'rows': rows, 'bars': bars}, open(path, 'w'))\n" + last
    )


def run(module: Any, tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    result, page = tmp_path / "all.json", tmp_path / "all.md"
    sys.argv = ["gpu", "--json", str(result), "--markdown", str(page), *arguments]
    code = module.main()
    return code, json.loads(result.read_text()), page.read_text()


@pytest.fixture(autouse=True)
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", list(sys.argv))


def test_parts_run_and_are_told_in_json_and_markdown(command: Any, tmp_path: Path) -> None:
    command.PARTS = (command.Part("one", "one.py", 0.5, options=("--quick",)),)
    write_script(tmp_path, "one.py")
    code, content, page = run(command, tmp_path, "--only", "one", "--options", "one:--more='a b'")
    assert code == 0
    part = content["parts"]["one"]
    assert part["state"].startswith("done in")
    assert part["rows"][0]["asked"] == "--quick --more=a b"
    assert "| what | items a second | asked |" in page
    assert "| a/b | 1,234 | --quick --more=a b |" in page
    assert "| a bar | 2 | 1 | yes |" in page


def test_a_part_that_takes_too_long_counts_with_what_it_had(command: Any, tmp_path: Path) -> None:
    command.PARTS = (command.Part("slow", "slow.py", 0.5), command.Part("next", "next.py", 0.5))
    write_script(tmp_path, "slow.py", "time.sleep(60)\n")
    write_script(tmp_path, "next.py")
    began = time.monotonic()
    code, content, _ = run(command, tmp_path, "--budget", "6")
    assert time.monotonic() - began < 20
    assert code == 0
    assert content["parts"]["slow"]["state"].startswith("stopped after")
    assert len(content["parts"]["slow"]["rows"]) == 1
    assert content["parts"]["next"]["state"].startswith("done in")


def test_a_broken_part_is_told_and_the_others_run(command: Any, tmp_path: Path) -> None:
    command.PARTS = (command.Part("bad", "bad.py", 0.5), command.Part("next", "next.py", 0.5))
    (tmp_path / "bad.py").write_text("raise SystemExit(3)\n")
    write_script(tmp_path, "next.py")
    code, content, _ = run(command, tmp_path)
    assert code == 1
    assert content["parts"]["bad"]["state"].startswith("broke with exit code 3")
    assert content["parts"]["next"]["rows"]


def test_what_is_missing_is_told(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TWINLENS_DATA", raising=False)
    needy = command.Part("needy", "needy.py", 0.5, needs=("json", "no_such_library"))
    dataless = command.Part("dataless", "dataless.py", 0.5, variable="TWINLENS_DATA")
    command.PARTS = (needy, dataless)
    code, content, page = run(command, tmp_path)
    assert code == 0
    assert content["parts"]["needy"]["state"] == "not run: not installed: no_such_library"
    assert "TWINLENS_DATA is not set" in content["parts"]["dataless"]["state"]
    assert "Not run: not installed: no_such_library." in page
    assert command.find_missing(dataless, dry=True) == ""


def test_every_part_of_the_real_command_exists() -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER), "--only", "nothing"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "parts are kernels, encoder, server, training, search" in done.stderr
    for name in ("kernels", "encoder", "serve", "train", "search"):
        assert (FOLDER.parent / f"{name}_gpu.py").is_file()


@pytest.mark.slow
def test_the_dry_run_goes_the_way_of_an_encoder_and_a_server(tmp_path: Path) -> None:
    result = tmp_path / "all.json"
    command = [sys.executable, str(FOLDER), "--dry-run", "--only", "encoder,server"]
    subprocess.run([*command, "--json", str(result)], check=True)
    parts = json.loads(result.read_text())["parts"]
    assert all(part["state"].startswith("done") for part in parts.values())
    (server,) = parts["server"]["rows"]
    assert server["images_a_second"] > 0 and server["failed"] == 0
    assert server["server_cpu_ms"] > 0 and server["client_cpu_ms"] > 0
