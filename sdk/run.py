"""Try the real clients of other servers against this one: a table of client, call, works.

    python sdk/run.py [ENVIRONMENT...]      # or: make test-sdk

Each environment of its own, since some clients cannot be installed beside others, made once by uv
below build/sdk. The server runs as `twinlens serve` does, with the builtin encoder and the example
pictures as a collection. Exits with 1 where a call does not work. What must stay true: clients are
used as they come; only their address, key and model are set.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "sdk"
# Environment -> its packages, and the files that run in it.
ENVIRONMENTS = {
    "main": (
        [
            *("openai", "cohere", "voyageai", "litellm", "tiktoken", "huggingface_hub"),
            *("langchain-openai", "langchain-cohere", "chromadb", "requests", "pillow"),
        ],
        [
            *("openai_calls.py", "langchain_calls.py", "cohere_calls.py", "voyage_calls.py"),
            *("chroma_calls.py", "litellm_calls.py", "hugging_face_calls.py"),
        ],
    ),
    "infinity": (["infinity_client", "httpx<0.28"], ["infinity_calls.py"]),
    # The package needs torch and more for indexing; its client is one file that needs requests.
    "clip": (["requests"], ["clip_retrieval_calls.py"]),
    # immich's server is not Python: its requests, as its source builds them, by plain HTTP.
    "plain": (["httpx"], ["plain_calls.py"]),
}
ALONE = {"clip": ["clip-retrieval"]}  # installed without what they ask for
OPTIONS = (
    *("--alias", "text-embedding-3-small=builtin", "--alias", "embed-v4.0=builtin"),
    *("--alias", "text-embedding-ada-002=builtin", "--alias", "ViT-B-32__openai=builtin:512"),
)


def main() -> None:
    """Try each client, and print the table."""
    chosen = sys.argv[1:] or list(ENVIRONMENTS)
    pythons = {name: make_environment(name) for name in chosen}
    rows: list[dict[str, Any]] = []
    with serve(find_vocabulary()) as url:
        for name, python in pythons.items():
            for file in ENVIRONMENTS[name][1]:
                rows += try_client(python, file, url)
    print_table(rows)
    sys.exit(not all(row["works"] for row in rows))


def make_environment(name: str) -> Path:
    """Return the interpreter of an environment, made where it is missing."""
    packages, _ = ENVIRONMENTS[name]
    python = FOLDER / name / "bin" / "python"
    made = FOLDER / name / "made"
    wanted = json.dumps([packages, ALONE.get(name, [])])
    if made.is_file() and made.read_text() == wanted:
        return python
    uv = Path(sys.executable).with_name("uv")
    if not python.is_file():
        subprocess.run([uv, "venv", "--quiet", "--python", "3.11", FOLDER / name], check=True)
    install = [str(uv), "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, *packages], check=True)
    if name in ALONE:
        subprocess.run([*install, "--no-deps", *ALONE[name]], check=True)
    made.write_text(wanted)
    return python


def find_vocabulary() -> Path:
    """Return the folder in which litellm brings the vocabulary that tiktoken reads."""
    found = (FOLDER / "main").glob("lib/*/site-packages/litellm/**/tokenizers")
    return next((path for path in found if path.is_dir()), FOLDER)


@contextmanager
def serve(vocabulary: Path) -> Iterator[str]:
    """Serve the builtin encoder and the example pictures; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    twinlens = [sys.executable, "-m", "twinlens"]
    with tempfile.TemporaryDirectory() as folder:
        collection = f"{folder}/collection"
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        build = [*twinlens, "index", "build", str(ROOT / "examples"), "-o", collection]
        subprocess.run(build, check=True, **quiet)
        command = [*twinlens, "serve", "--port", str(port), *OPTIONS]
        environment = os.environ | {"TIKTOKEN_CACHE_DIR": str(vocabulary)}
        server = subprocess.Popen(
            [*command, "--collection", f"examples={collection}"], env=environment, **quiet
        )
        try:
            wait_until_ready(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


def wait_until_ready(url: str, seconds: float = 120) -> None:
    """Return when the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/readyz"):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"the server was not ready within {seconds:.0f} s")


def try_client(python: Path, file: str, url: str) -> list[dict[str, Any]]:
    """Run a client's file; return a row for each call, or one that says why there are none."""
    environment = os.environ | {
        "TIKTOKEN_CACHE_DIR": str(find_vocabulary()),
        "PYTHONPATH": str(ROOT / "sdk"),
        "NO_PROXY": "127.0.0.1",
    }
    ran = subprocess.run(
        [python, ROOT / "sdk" / file, url],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith('{"client"')]
    if ran.returncode or not lines:
        name = file.removesuffix("_calls.py")
        said = ran.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return [{"client": name, "call": "import", "works": False, "said": said[0]}]
    return [json.loads(line) for line in lines]


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print client, call, whether it works, and what was said where it does not."""
    widths = [max(len(row[key]) for row in rows) for key in ("client", "call")]
    for row in rows:
        works = "works" if row["works"] else f"FAILS  {row['said']}"
        print(f"{row['client']:{widths[0]}}  {row['call']:{widths[1]}}  {works}")
    print(f"{sum(row['works'] for row in rows)} of {len(rows)} calls work")


if __name__ == "__main__":
    main()
