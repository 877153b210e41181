"""The script that awaits a CUDA machine runs: what it would measure there is right here, tiny."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kernels_gpu.py"


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, _SCRIPT, "--dry-run", *arguments],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_dry_run_is_correct_and_claims_no_time(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    done = _run("--json", result)
    assert done.returncode == 0, done.stderr[-2000:]
    content = json.loads(result.read_text())
    measured = {row["measurement"].split(",")[0] for row in content["rows"]}
    assert content["card"]["name"] == "no GPU, interpreted"
    assert measured == {
        "two-sided lse",
        "forward and backward",
        "sigmoid step",
        "top 8",
        "zero-shot",
        "matryoshka",
    }
    wrong = [name for name, bar in content["bars"].items() if not bar["holds"] and "error" in name]
    assert wrong == []
    assert not any("speed" in name or "64k" in name for name in content["bars"])


def test_every_candidate_of_the_tuning_runs(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    done = _run("--tune", "softmax", "topk", "plans", "--json", result)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(result.read_text())["rows"]
    tried = {row["kernel"] for row in rows if "kernel" in row}
    assert tried == {"softmax, 2 bytes", "softmax, 4 bytes", "topk, 2 bytes"}
    sizes = [(row["type"], row["m"]) for row in rows if "best" in row]
    assert sizes == [(t, m) for t in ("torch.bfloat16", "torch.float32") for m in (2, 40)]
    right = [row["right"].split(", ") for row in rows if "right" in row]
    assert all(len(names) >= 5 for names in right)
