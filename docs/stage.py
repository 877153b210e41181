"""The scene that blocks of the docs are run in: a scratch folder, and a server to ask.

What a block names and nobody has made yet (`photos`, `b32`, `run`) is put there first: a stand-in
of the same kind, small enough for a test. What must stay true: nothing outside the folder is
written, and no block needs a network.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.attentive import write_attentive_bundle

ROOT = Path(__file__).resolve().parent.parent
SHOWN_ADDRESS = "localhost:8000"
_READY_SECONDS = 90
# A server that a block starts is followed until it is ready, and stopped; all else is run as it is.
_SHIM = """#!/bin/sh
here=1
case "$*" in *--help*|*--no-serve*|*--no-index*|*--json*) here=0;; esac
case "$1" in serve|demo) [ $here = 1 ] && exec {python} {stage} "$@";; esac
exec {python} -m twinlens.cli.main "$@"
"""


@dataclass
class Stage:
    """A scratch folder with what blocks name, and the address that stands for the shown one."""

    home: Path
    folder: Path
    address: str = ""

    @staticmethod
    @contextmanager
    def build() -> Iterator[Stage]:
        """Make a folder and start the server that all pages share."""
        with tempfile.TemporaryDirectory(prefix="twinlens-docs-") as made:
            stage = Stage(Path(made), Path(made))
            stage._furnish()
            with stage._serve_demo() as stage.address:
                yield stage

    def open_page(self, name: str) -> None:
        """Begin a page: in a folder of its own, since pages make things of the same names."""
        self.folder = self.home / name
        self.folder.mkdir(exist_ok=True)
        for shown in ("examples", "benchmarks", "docs"):
            if not (self.folder / shown).exists():
                (self.folder / shown).symlink_to(ROOT / shown)

    def prepare(self, code: str) -> None:
        """Put what the code names where it is looked for, unless it is there."""
        for name, make in STAND_INS.items():
            path = self.folder / name
            if re.search(rf"(?<![\w/.]){re.escape(name)}(?![\w-])", code) and not path.exists():
                make(self, path)

    def readdress(self, code: str) -> str:
        """Return the code with the shown address made the one that answers."""
        return code.replace(SHOWN_ADDRESS, self.address)

    def run_shell(self, code: str) -> str:
        """Run lines of a shell; return what they print, raise where one fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.readdress(code)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            raise RuntimeError(
                f"exit code {done.returncode} of:\n{code}\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that a block sees: ours first on the path, its cache in here."""
        ours = {
            "PATH": f"{self.home / '.bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "CURL_HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "100",
        }
        return {**os.environ, **ours}

    def _furnish(self) -> None:
        (self.home / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
        shims = self.home / ".bin"
        shims.mkdir()
        shim = shims / "twinlens"
        shim.write_text(_SHIM.format(python=sys.executable, stage=Path(__file__).resolve()))
        shim.chmod(0o755)
        # Not a link: an environment's interpreter finds its packages by its own path.
        python = shims / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)

    @contextmanager
    def _serve_demo(self) -> Iterator[str]:
        home = self.home / ".demo"
        draw = f"twinlens demo --no-emoji --no-serve --folder {home} 2>/dev/null"
        told = self.run_shell(draw).strip().splitlines()[-1]
        collection = told.split()[2]
        vision = write_attentive_bundle(home / "vit")
        arguments = ["serve", "builtin:photographs", "builtin", f"vit={vision}"]
        arguments += ["--collection", f"demo={collection}", "--data", str(home / "data")]
        with start_server(arguments, self.environment) as address:
            yield address


@contextmanager
def start_server(arguments: list[str], environment: dict[str, str]) -> Iterator[str]:
    """Start `twinlens ARGUMENTS` on a free port; yield its address once it is ready."""
    port = _find_port()
    command = [sys.executable, "-m", "twinlens.cli.main", *_without_port(arguments)]
    with tempfile.TemporaryFile("w+") as told:
        server = subprocess.Popen(
            [*command, "--port", str(port)], env=environment, stdout=told, stderr=told
        )
        try:
            if not _wait_until_ready(port, server):
                told.seek(0)
                raise RuntimeError(f"twinlens {' '.join(arguments)} is not ready:\n{told.read()}")
            yield f"localhost:{port}"
        finally:
            server.send_signal(2)
            server.wait(30)


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _without_port(arguments: list[str]) -> list[str]:
    kept = list(arguments)
    if "--port" in kept:
        at = kept.index("--port")
        del kept[at : at + 2]
    return kept


def _wait_until_ready(port: int, server: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    return False


def _copy_builtin(stage: Stage, path: Path) -> None:
    shutil.copytree(ROOT / "twinlens" / "bundle" / "builtin", path)


def _copy_picture(stage: Stage, path: Path) -> None:
    from PIL import Image

    with Image.open(ROOT / "examples" / "heart.png") as picture:
        picture.convert("RGB").save(path)


def _draw_folder(stage: Stage, path: Path) -> None:
    """Put a few of the demo's drawings into folders named by kind."""
    drawn = sorted((stage.home / ".demo" / "drawings").glob("*/*.png"))
    for picture in drawn[::4]:
        target = path / picture.parent.name / picture.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, target)


def _write_keys(stage: Stage, path: Path) -> None:
    path.write_text("read:K3yOfTheShop\nadmin:K3yOfTheOperators\n")


def _train_run(stage: Stage, path: Path) -> None:
    stage.prepare("photos")
    tiny = "--set steps=4 --set batch=8 --set warmup=1"
    stage.run_shell(f"twinlens train simclr photos --out {path.relative_to(stage.folder)} {tiny}")


def _build_index(stage: Stage, path: Path) -> None:
    stage.prepare("photos b32")
    stage.run_shell(f"twinlens index build photos -o {path.name} --bundle b32")


_Maker = Callable[[Stage, Path], None]
# What a page may name without making it, and what stands in for it.
STAND_INS: dict[str, _Maker] = {
    **dict.fromkeys(["b32", "icons"], _copy_builtin),
    **dict.fromkeys(["photos", "toys/drawings"], _draw_folder),
    **dict.fromkeys(["photo.jpg", "cat.jpg", "mine.jpg", "dog.png", "x.jpg"], _copy_picture),
    **dict.fromkeys(["a.jpg", "b.jpg", "b1.jpg", "b2.jpg", "n1.jpg"], _copy_picture),
    "keys": _write_keys,
    "photos.index": _build_index,
    **dict.fromkeys(["run", "runs/first"], _train_run),
}


def main(arguments: list[str]) -> int:
    """Start a server as a block says, and stop it when it is ready."""
    with start_server(arguments, dict(os.environ)):
        sys.stdout.write("ready\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
