"""How much code one request, one search, one training step and one export execute.

    python benchmarks/trace.py [--quick] [--json FILE]

Counted while each runs, warm, in this process: the files and functions of `twinlens/` that are
entered, and the changes of file: how often a thread enters a function of another file than the
previous one. Library code is not counted. The minimum of several repeats counts, since the server's
own timers may interrupt one. `--quick` leaves out what needs torch. What must stay true: only
commands, HTTP paths and names that `twinlens` exports are used, never a module inside a room, so
that the same script counts older and newer versions of the package.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

import httpx
from report import Report, parse_arguments

import twinlens
from twinlens.cli.main import run

PACKAGE = str(Path(twinlens.__file__).parent) + os.sep
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
REPEATS = 12
SETTLE_SECONDS = 0.02  # after an answer: the server's work once it has sent it
_COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>"}  # Python 3.12 enters none of them


@dataclass(frozen=True, order=True)
class Counts:
    """What one action entered."""

    changes: int
    functions: int
    files: int


# One image through `/embed`: no change may execute more. Eleven of the files are the bundle's:
# from the image's header to the engine that runs the graph. Most processes count 91 changes.
# Two of the functions replace slower ones of the HTTP library, which are not counted.
RECORDED = Counts(changes=97, functions=169, files=39)


class Recorder:
    """Records every function of the package that any thread enters while it is on."""

    def __init__(self) -> None:
        self.is_on = False
        self._entered: dict[int, list[CodeType]] = {}

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Receive one event of the interpreter."""
        if not self.is_on or event != "call":
            return
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE) and code.co_name not in _COMPREHENSIONS:
            self._entered.setdefault(threading.get_ident(), []).append(code)

    def start(self) -> None:
        """Start counting."""
        self._entered = {}
        self.is_on = True

    def stop(self) -> Counts:
        """Stop, and return the counts."""
        self.is_on = False
        threads = [list(codes) for codes in self._entered.values()]
        entered = {code for codes in threads for code in codes}
        steps = [step for codes in threads for step in pairwise(codes)]
        return Counts(
            changes=sum(before.co_filename != after.co_filename for before, after in steps),
            functions=len(entered),
            files=len({code.co_filename for code in entered}),
        )

    def count(self, action: Callable[[], object], settle: float = 0.0) -> Counts:
        """Return the minimum that the action entered over several warm repeats."""
        for _ in range(3):
            action()
        found = []
        for _ in range(REPEATS):
            time.sleep(settle)
            self.start()
            action()
            time.sleep(settle)
            found.append(self.stop())
        return min(found)


def main() -> None:
    """Trace each action and report it."""
    arguments = parse_arguments(__doc__)
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as made, profile_threads(recorder):
        folder = Path(made)
        run_command("index", "build", str(EXAMPLES), "-o", str(folder / "collection"))
        found = trace_requests(recorder, folder) | trace_search(recorder, folder)
        if not arguments.quick:
            found |= trace_training(recorder, folder) | trace_export(recorder, folder)
    report = Report("trace")
    for what, counts in found.items():
        row = {"files": counts.files, "functions": counts.functions, "changes": counts.changes}
        report.row(what=what, **row)
    image = found["/embed, an image"]
    for name in ("files", "functions", "changes"):
        value, most = getattr(image, name), getattr(RECORDED, name)
        report.bar(f"{name}_of_one_embedded_image", value, most, value <= most)
    report.finish(arguments.json)


@contextlib.contextmanager
def profile_threads(recorder: Recorder) -> Iterator[None]:
    """Install the recorder in this thread, and in those that are started in the block."""
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def run_command(*arguments: str) -> None:
    """Run `twinlens ARGUMENTS` in this process without output; raise if it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            run(list(arguments))
        except SystemExit as stop:
            if stop.code not in (0, 130):  # 130: interrupted, as a server is
                raise RuntimeError(f"twinlens {' '.join(arguments)}: {said.getvalue()}") from None


def trace_requests(recorder: Recorder, folder: Path) -> dict[str, Counts]:
    """Serve the builtin encoder from this thread, and send requests from another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    collection = f"examples={folder / 'collection'}"
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(_ask, recorder, f"http://127.0.0.1:{port}")
        run_command("serve", "builtin", "--port", str(port), "--collection", collection)
        return asked.result()


def _ask(recorder: Recorder, url: str) -> dict[str, Counts]:
    """Return the counts of each request, then stop the server."""
    photo = (EXAMPLES / "heart.png").read_bytes()
    classes = {"classes": ["red heart", "sun"]}
    search = {"collection": "examples", "text": "a red heart", "k": 3}
    try:
        with httpx.Client(base_url=url) as http:
            _wait_until_ready(http)
            png = {"content-type": "image/png"}
            asks: dict[str, Callable[[], httpx.Response]] = {
                "/embed, an image": lambda: http.post("/embed", content=photo, headers=png),
                "/embed, a text": lambda: http.post("/embed", json={"texts": ["a red heart"]}),
                "/zeroshot, an image": lambda: http.post(
                    "/zeroshot", files={"images": photo}, data=classes
                ),
                "/search, a text": lambda: http.post("/search", json=search),
            }
            return {
                what: recorder.count(partial(_get_answer, ask), SETTLE_SECONDS)
                for what, ask in asks.items()
            }
    finally:
        os.kill(os.getpid(), signal.SIGINT)


def _get_answer(ask: Callable[[], httpx.Response]) -> bytes:
    return ask().raise_for_status().content


def _wait_until_ready(http: httpx.Client, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if http.get("/readyz").is_success:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server was not ready within {seconds:.0f} s")


def trace_search(recorder: Recorder, folder: Path) -> dict[str, Counts]:
    """Search the collection in this process, with an embedded row."""
    row = twinlens.open_bundle("builtin").embed_texts(["a red heart"])
    with twinlens.open_collection(folder / "collection") as collection:
        return {"search, a row": recorder.count(lambda: collection.search(row))}


def trace_training(recorder: Recorder, folder: Path) -> dict[str, Counts]:
    """Train a few steps; a step lasts from one update of the weights to the next."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    found: list[Counts] = []

    def note_step(*_: object) -> None:
        if recorder.is_on:
            found.append(recorder.stop())
        recorder.start()

    run_command("demo", "--no-emoji", "--no-index", "--folder", str(folder / "toys"))
    hook = register_optimizer_step_post_hook(note_step)
    few = ("--set", "steps=10", "--set", "batch=8", "--set", "log_every=100")
    run_command("train", "simclr", str(folder / "toys"), "--out", str(folder / "run"), *few)
    hook.remove()
    recorder.stop()
    return {"a training step": min(found[2:])}


def trace_export(recorder: Recorder, folder: Path) -> dict[str, Counts]:
    """Export the run that was trained."""
    recorder.start()
    run_command("export", str(folder / "run"), "-o", str(folder / "bundle"))
    return {"export of a run": recorder.stop()}


if __name__ == "__main__":
    main()
