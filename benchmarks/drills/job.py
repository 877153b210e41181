"""A thousand classes of eighty templates, built beside live traffic and through a kill -9.

It measures how much the job slows live requests, and how much work a killed server loses.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from report import Report

from drills.stage import Server, make_photo, make_request, percentile, pin, press, split_cpus

TEMPLATES = "broad"  # 80


def drill(report: Report, bundle: str, *, quick: bool) -> None:
    """Build, ask meanwhile, kill, start again, and see it done."""
    classes = [f"thing number {i}" for i in range(100 if quick else 1000)]
    body = orjson.dumps({"classes": classes, "templates": TEMPLATES, "background": True})
    asking = make_request("/embed", make_photo(), "image/jpeg")
    cpus, rest = split_cpus()
    seconds = 2.0 if quick else 10.0
    with tempfile.TemporaryDirectory() as folder, pin(rest):
        with _serve(bundle, folder, cpus) as server:
            alone = press(server.port, 1, asking, seconds).seconds(200)
            job = _ask(server, "PUT", "/classifiers/thousand", body)["job"]["id"]
            _wait(server, job, lambda found: found["done"] > 0)
            beside = press(server.port, 1, asking, seconds).seconds(200)
            time.sleep(2.5)  # progress is saved every two seconds
            before = _ask(server, "GET", f"/jobs/{job}")
            server.process.kill()
            server.process.wait()
        with _serve(bundle, folder, cpus) as server:
            after = _wait(server, job, lambda found: found["done"] > 0)
            beside += press(server.port, 1, asking, seconds).seconds(200)
            resumed = _ask(server, "GET", f"/jobs/{job}")["done"]
            began = time.monotonic()
            done = _wait(server, job, lambda found: found["finished"] is not None)
            took = time.monotonic() - began
            kept = _ask(server, "GET", "/classifiers/thousand")
    beside.sort()
    slower = percentile(beside, 0.5) / percentile(alone, 0.5)
    slowest = percentile(beside, 0.99) / percentile(alone, 0.99)
    lost = before["done"] - after["done"]
    for what, value in (
        ("classes", len(classes)),
        ("one image alone, p50, ms", 1000 * percentile(alone, 0.5)),
        ("one image alone, p99, ms", 1000 * percentile(alone, 0.99)),
        ("one image beside the job, p50, ms", 1000 * percentile(beside, 0.5)),
        ("one image beside the job, p99, ms", 1000 * percentile(beside, 0.99)),
        ("classes done when killed", before["done"]),
        ("classes done when found again", after["done"]),
        ("classes done beside live images after that", resumed - after["done"]),
        ("seconds from there to the end, without other load", took),
    ):
        report.row(drill="job", what=what, value=value)
    whole = done["state"] == "done" and len(kept["classes"]) == len(classes)
    report.bar("job_slows_live_images", slower, 1.5, slower <= 1.5)
    report.bar("job_slows_live_p99", slowest, 2.0, slowest <= 2.0)
    report.bar("job_resumed_from", after["done"], 1, after["done"] >= 1 or quick)
    report.bar("job_classes_lost", lost, len(classes) // 2, lost <= len(classes) // 2 or quick)
    report.bar("job_finished_whole", whole, 1, whole)


def _serve(bundle: str, folder: str, cpus: set[int]) -> Server:
    return Server(f"model={bundle}", "--data", str(Path(folder)), "--threads", "1", cpus=cpus)


def _ask(server: Server, method: str, path: str, body: bytes = b"") -> Any:
    answer = server.ask(method, path, body, Content_Type="application/json")
    if answer.status not in (200, 202):
        raise SystemExit(f"{path} answered {answer.status}: {answer.body[:200]!r}")
    return orjson.loads(answer.body)


def _wait(server: Server, job: str, until: Callable[[Any], bool]) -> Any:
    """Return the job once it has come that far; give up after ten minutes."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        found = _ask(server, "GET", f"/jobs/{job}")
        if until(found):
            return found
        time.sleep(0.05)
    raise SystemExit(f"job {job} made no progress")
