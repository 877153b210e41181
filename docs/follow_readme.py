"""Follow the README in a clean clone, block by block, and time each: a newcomer's first hour.

    python docs/follow_readme.py [--repository DIR] [--photos FOLDER] [--json FILE]

Only the README's own blocks are run, in order, in a clone that holds nothing but what git holds,
with `.venv` activated from where it says so. A reader brings photos: FOLDER, else the pictures
that the demo has drawn by then. Blocks that need a network beyond the package index are left out,
with those that use what they make. Exit code 0: every other block ran, and a search result, a
zero-shot answer and an exported encoder were seen.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs.blocks import Block, read_blocks

ROOT = Path(__file__).resolve().parent.parent
_READY_SECONDS = 1200
# What has to be reached: a name, and words of the output of the block that reaches it.
GOALS = {"a zero-shot answer": '"labels"', "a search result": '"score"', "an encoder": "revision"}


@dataclass
class Follower:
    """The clone, what runs in it, and what was seen so far."""

    clone: Path
    activated: bool = False
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    steps: list[tuple[str, float]] = field(default_factory=list)
    seen: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of a fresh terminal, with `.venv` in front once it is activated."""
        kept = {"PATH", "HOME", "LANG", "USER", "TMPDIR"}
        kept |= {name for name in os.environ if name.startswith(("PIP_", "UV_", "SSL_", "OMP_"))}
        variables = {name: os.environ[name] for name in kept if name in os.environ}
        variables["XDG_CACHE_HOME"] = str(self.clone / ".home")
        if self.activated:
            variables["PATH"] = f"{self.clone / '.venv' / 'bin'}:{variables['PATH']}"
        return variables

    def time(self, name: str, act: object, *arguments: object) -> None:
        """Do one step and keep how long it took by the clock."""
        assert callable(act)
        start = time.monotonic()
        act(*arguments)
        self.steps.append((name, time.monotonic() - start))
        sys.stdout.write(f"{self.steps[-1][1]:7.1f} s  {name}\n")
        sys.stdout.flush()

    def run(self, code: str) -> None:
        """Run a block as a terminal would; a server at its end stays up until the next one."""
        lines = code.strip().splitlines()
        last = lines[-1].split("&&")[-1].strip()
        if not last.startswith(("make serve", "twinlens serve")):
            return self._shell(code)
        before = code.strip()[: code.strip().rindex(last)].strip().removesuffix("&&")
        if before:
            self._shell(before)
        self.stop()
        self.start(last)
        return None

    def _shell(self, code: str) -> None:
        command = ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(
            command, cwd=self.clone, env=self.environment, capture_output=True, text=True
        )
        self.seen += done.stdout
        if done.returncode:
            raise SystemExit(f"exit code {done.returncode} of:\n{code}\n{done.stdout}{done.stderr}")

    def start(self, command: str) -> None:
        """Start a server and wait until it is ready."""
        with (self.clone / "server.log").open("ab") as log:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.clone,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.servers.append(server)
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end and server.poll() is None:
            try:
                with urllib.request.urlopen("http://localhost:8000/readyz", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"not ready: {command}\n{(self.clone / 'server.log').read_text()}")

    def stop(self) -> None:
        """End the servers that this started."""
        while self.servers:
            server = self.servers.pop()
            os.killpg(server.pid, 15)
            server.wait(60)


def follow(follower: Follower, photos: Path | None) -> None:
    """Run the README's blocks in order."""
    missing: set[str] = set()  # what blocks that were left out would have made
    for block in read_blocks(follower.clone / "README.md"):
        needs = {name for name in missing if re.search(rf"\b{name}\b", block.code.text)}
        if "network" in block.code.tags or needs:
            sys.stdout.write(f"   left out  {_name(block)} (needs a network)\n")
            missing |= set(re.findall(r" -o (\w+)", block.code.text))
            continue
        if "photos" in block.code.text and not (follower.clone / "photos").exists():
            _bring_photos(follower.clone, photos)
        if block.code.language == "python":
            code = block.code.text
            follower.time(_name(block), follower._shell, f"python - <<'END'\n{code}\nEND")
        else:
            follower.time(_name(block), follower.run, block.code.text)
        follower.activated |= ".venv/bin/activate" in block.code.text


def _name(block: Block) -> str:
    return block.code.text.strip().splitlines()[0].split("  #")[0][:90]


def _bring_photos(clone: Path, photos: Path | None) -> None:
    """Put what a reader has at hand where the README looks for it."""
    drawn = sorted((clone / ".home" / "twinlens" / "demo").glob("*/*/"))
    source = photos or drawn[0].parent
    shutil.copytree(source, clone / "photos", ignore=shutil.ignore_patterns("*.csv"))
    first = next(path for path in sorted((clone / "photos").rglob("*")) if path.suffix == ".png")
    shutil.copy(first, clone / "photo.jpg")


def main() -> int:
    """Clone, follow, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", default=str(ROOT))
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="twinlens-clone-") as folder:
        follower = Follower(Path(folder) / "twinlens")
        command = ["git", "clone", "--quiet", given.repository, str(follower.clone)]
        follower.time("git clone", subprocess.run, command)
        try:
            follow(follower, given.photos)
        finally:
            follower.stop()
        missed = [goal for goal, words in GOALS.items() if words not in follower.seen]
        sys.stdout.write(f"not reached: {', '.join(missed)}\n" if missed else "all reached\n")
        sys.stdout.flush()  # removing the clone takes a while
        if given.json:
            given.json.write_text(json.dumps({"steps": follower.steps, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
