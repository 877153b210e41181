"""A terminal of a user without torch: the command line in processes of its own.

The client of the hub reads its environment when it is imported, so nothing here runs in the
process of the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent
ABSENT = ("torch", "torchvision", "open_clip", "timm", "transformers")

_WITHOUT_TORCH = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""
_COMMAND = _WITHOUT_TORCH + "from twinlens.cli.main import run; run(sys.argv[1:])"


@dataclass
class Terminal:
    """Runs commands with caches of its own."""

    home: Path
    endpoint: str
    more: dict[str, str] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        """The folder that TWINLENS_CACHE names."""
        return self.home / "twinlens_cache"

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            self._spell(arguments), capture_output=True, text=True, env=self._environment()
        )

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start one command."""
        return subprocess.Popen(
            self._spell(arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
        )

    def run_python(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run a program that uses the library."""
        return subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                _WITHOUT_TORCH + code,
            ],
            capture_output=True,
            text=True,
            env=self._environment(),
        )

    def _spell(self, arguments: tuple[object, ...]) -> list[str]:
        return [sys.executable, "-W", "error", "-c", _COMMAND, *map(str, arguments)]

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        return kept | {
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home / "hub_home"),
            "TWINLENS_CACHE": str(self.cache),
            **self.more,
        }
