"""A server on a GPU over HTTP: JPEG images per second, one per request, and CPU time by process.

    python benchmarks/serve_gpu.py --json FILE [--bundle PATH] [--serve="--workers 8"] ...
    python benchmarks/serve_gpu.py --dry-run --json FILE      the builtin on the CPU, four clients

Clients are separate processes; their CPU time is counted apart from the server's. Each --serve is a
server with these further options; the default is one server without options.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from drills.stage import Server, count_cpu_seconds, make_request, percentile, press
from encoder_gpu import make_bundle
from PIL import Image
from report import Report

CLIENTS, PROCESSES, SECONDS = 64, 4, 8.0
TARGET = 2000  # images a second


def main() -> None:
    """Start each server in turn and load it."""
    arguments = _parse()
    if arguments.client:
        run_client(*arguments.client)
        return
    dry = arguments.dry_run
    report = Report("serve_gpu (dry run)" if dry else "serve_gpu", arguments.json)
    bundle = arguments.bundle or ("builtin" if dry else str(make_bundle()))
    common = ["--device", "cpu"] if dry else ["--device", arguments.device, "--precision", "fp16"]
    best = 0.0
    for options in arguments.serve or [""]:
        command = [f"model={bundle}", *common, *shlex.split(options)]
        try:
            with Server(*command, show=True) as server:
                rate = measure(report, server, options or "as installed", dry=dry)
        except SystemExit as error:
            report.row(server=options or "as installed", what=str(error))
            continue
        best = max(best, rate)
    if not dry:
        report.bar("JPEG images a second over HTTP", best, TARGET, best >= TARGET)
    report.finish(arguments.json)


def measure(report: Report, server: Server, name: str, *, dry: bool) -> float:
    """Add a row for one server; return its images per second."""
    clients, processes, seconds = (4, 1, 1.0) if dry else (CLIENTS, PROCESSES, SECONDS)
    _press_from_processes(server.port, clients, processes, min(2.0, seconds))
    batches, items = read_batches(server)
    cpu, mine = count_cpu_seconds(server.pid), _children_seconds()
    answers, failed = _press_from_processes(server.port, clients, processes, seconds)
    spent, paid = count_cpu_seconds(server.pid) - cpu, _children_seconds() - mine
    more_batches, more_items = read_batches(server)
    count = max(1, len(answers))
    report.row(
        server=name,
        images_a_second=len(answers) / seconds,
        failed=failed,
        p50_ms=1000 * percentile(answers, 0.5),
        p99_ms=1000 * percentile(answers, 0.99),
        server_cpu_ms=1000 * spent / count,
        client_cpu_ms=1000 * paid / count,
        mean_batch=(more_items - items) / max(1, more_batches - batches),
        ready_s=server.seconds_to_ready,
    )
    return len(answers) / seconds


def _press_from_processes(
    port: int, clients: int, processes: int, seconds: float
) -> tuple[list[float], int]:
    """Return the sorted seconds of good answers to all clients, and how many failed."""
    share = clients // processes
    command = [sys.executable, __file__, "--client", str(port), str(share), str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    told = [json.loads(process.communicate()[0]) for process in running]
    return sorted(s for one in told for s in one["seconds"]), sum(one["failed"] for one in told)


def run_client(port: str, clients: str, seconds: str) -> None:
    """Load a server and print the results; runs in its own process."""
    request = make_request("/embed", make_photograph(), "image/jpeg", "application/octet-stream")
    tally = press(int(port), int(clients), request, float(seconds))
    good = tally.seconds(200)
    print(json.dumps({"seconds": good, "failed": len(tally.answers) - len(good)}))


def make_photograph(width: int = 640, height: int = 480) -> bytes:
    """Return a JPEG of about 100 KB, as a camera's would be at this size."""
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 255, (height // 20, width // 20, 3), dtype=np.uint8)
    smooth = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 9, (height, width, 1))
    buffer = io.BytesIO()
    noisy = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def read_batches(server: Server) -> tuple[float, float]:
    """Return how many batches of images ran, and how many images were in them."""
    text = server.ask("GET", "/metrics").body.decode()
    found = [
        sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if re.match(rf"twinlens_batch_items_{part}{{.*image", line)
        )
        for part in ("count", "sum")
    ]
    return found[0], found[1]


def _children_seconds() -> float:
    """Return the CPU seconds of child processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", help="a bundle with fp16; default: exported once")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument(
        "--serve",
        action="append",
        default=[],
        metavar="OPTIONS",
        help="options of a server; repeat",
    )
    parser.add_argument("--dry-run", action="store_true", help="show that the script works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    parser.add_argument("--client", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
