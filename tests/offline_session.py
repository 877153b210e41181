"""A minute of work with every command that loads a runtime: train, export, index, serve, embed.

Run as a program by `test_silence`, which watches what leaves the process.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from PIL import Image

SECONDS = 60.0  # onnxruntime's first report comes 12 to 24 s after its import


def run(*arguments: str) -> None:
    """Run one command of the command line to its end."""
    subprocess.run([sys.executable, "-m", "twinlens", *arguments], check=True, timeout=300)


def main(folder: Path) -> None:
    """Do all of it in `folder`; the server stays up until the minute is over."""
    began = time.monotonic()
    images = folder / "images"
    images.mkdir()
    for number in range(24):
        colour = (10 * number % 256, 77 * number % 256, 151 * number % 256)
        Image.new("RGB", (40, 40), colour).save(images / f"{number:02}.png")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "twinlens", "serve", "--port", str(port)]
    server = subprocess.Popen(command)
    try:
        run("train", "simclr", str(images), "-o", str(folder / "run"), *SETTINGS)
        run("export", str(folder / "run"), "-o", str(folder / "bundle"))
        run("index", "build", str(images), "-o", str(folder / "collection"))
        if importlib.util.find_spec("openvino"):
            run("embed", "-t", "red", "--engine", "openvino")
            run("check", "builtin", "--engine", "openvino")
        while time.monotonic() < began + SECONDS:
            httpx.post(f"http://127.0.0.1:{port}/embed", json={"texts": ["red"]}, timeout=30)
            time.sleep(1)
        answer = httpx.post(f"http://127.0.0.1:{port}/embed", json={"texts": ["red"]}, timeout=30)
        assert answer.status_code == 200, answer.text
    finally:
        server.terminate()
        server.wait(timeout=30)


SETTINGS = [
    *("--set", "steps=3", "--set", "batch=8", "--set", "image_size=32"),
    *("--set", "encoder=vit-tiny"),
]

if __name__ == "__main__":
    main(Path(sys.argv[1]))
