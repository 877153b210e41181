"""The script that awaits a CUDA machine runs: what it would measure there is right here, tiny."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kernels_gpu.py"


def test_the_dry_run_is_correct_and_claims_no_time(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, _SCRIPT, "--dry-run", "--json", result],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    content = json.loads(result.read_text())
    measured = {row["measurement"].split(",")[0] for row in content["rows"]}
    assert measured == {"two-sided lse", "forward and backward", "top 8", "zero-shot"}
    wrong = [name for name, bar in content["bars"].items() if not bar["holds"] and "error" in name]
    assert wrong == []
    assert not any("speed" in name or "64k" in name for name in content["bars"])
