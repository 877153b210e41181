"""From a folder of pictures to a few-shot classifier behind HTTP, with nothing pretrained.

    python examples/few_shot.py FOLDER [STEPS]

Trains SimCLR on all pictures without labels, exports the encoder, serves it, teaches the server
each class (a subfolder of FOLDER) by three pictures, and asks it about the others. Run it again
and training goes on where it stopped. Needs the training extra: pip install -e '.[cpu,train]'
"""

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

import twinlens

SHOTS = 3
TWINLENS = [sys.executable, "-m", "twinlens.cli.main"]


def make_bundle(folder: Path, steps: str) -> Path:
    """Train on the folder and export what came out."""
    run, bundle = folder.with_name("few-shot-run"), folder.with_name("few-shot-bundle")
    train = ["train", "simclr", str(folder), "--out", str(run), "--set", f"steps={steps}"]
    subprocess.run([*TWINLENS, *train, "--set", "batch=16"], check=True)
    subprocess.run([*TWINLENS, "export", str(run), "-o", str(bundle), "--force"], check=True)
    return bundle


def start_server(bundle: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Serve the bundle on a free port; return the process and its address once it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["serve", f"mine={bundle}", "--port", str(port), "--drain-notice", "0"]
    server = subprocess.Popen([*TWINLENS, *command])
    url = f"http://127.0.0.1:{port}"
    while server.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return server, url
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def judge(url: str, classes: dict[str, list[Path]]) -> float:
    """Teach each class by a few pictures; return the share of the others told rightly."""
    with twinlens.Client(url) as client:
        shown = {name: pictures[:SHOTS] for name, pictures in classes.items()}
        client.put_classifier("few-shot", examples=shown)
        asked = [(name, path) for name, paths in classes.items() for path in paths[SHOTS:]]
        answers = client.zero_shot([path for _, path in asked], classifier="few-shot")
    told = [answer["labels"][0]["label"] for answer in answers]
    return sum(name == label for (name, _), label in zip(asked, told, strict=True)) / len(asked)


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder in order."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))


def main(folder: Path, steps: str) -> None:
    """Do all of it."""
    found = {each.name: list_pictures(each) for each in folder.iterdir() if each.is_dir()}
    classes = {name: pictures for name, pictures in found.items() if len(pictures) > SHOTS}
    server, url = start_server(make_bundle(folder, steps))
    try:
        share = judge(url, classes)
    finally:
        server.terminate()
        server.wait()
    print(f"{share:.0%} right from {SHOTS} examples each of {len(classes)} classes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), (sys.argv[2:] or ["150"])[0])
