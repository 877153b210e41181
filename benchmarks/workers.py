"""One server process and many, beside a simulated GPU: images per second, and the cost of each.

    python benchmarks/workers.py [--quick] [--workers N] [--clients N] [--json FILE]
        [--flat SECONDS [--rate N]]

Contenders alternate on the same cores as the load client, each with one picture per request. A bare
loop that decodes the same pictures on the same cores, one process per core, is the upper bound. On
a busy machine the clock is unreliable, so the share of the bare loop is also reported in CPU time,
including the client's own. `--flat` loads the many processes alone, for so long, and compares their
memory at its beginning and end; `--rate` limits the load to so many images per second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from drills.stage import (
    Connection,
    count_cpu_seconds,
    make_photo,
    make_request,
    percentile,
    read_answer,
)
from report import Report

PICTURES = 64
_CARD = Path(__file__).parent / "drills" / "card.py"
_PARTS = 10  # of a long load: memory is read after each
_SHARE, _CPU = 0.62, 2.7  # of the bare loop's rate; milliseconds per image

_DECODE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from drills.card import StandIn
from drills.stage import make_photo
photos = [make_photo(seed=i) for i in range(int(sys.argv[3]))]
preprocess = StandIn().preprocess
print("ready", flush=True)
sys.stdin.readline()
began, cpu, done = time.monotonic(), time.process_time(), 0
while time.monotonic() - began < float(sys.argv[2]):
    preprocess(photos[done % len(photos)])
    done += 1
print(done, time.process_time() - cpu, flush=True)
"""


@dataclass
class Round:
    """One contender in one turn."""

    rate: float  # images per second
    cpu: float  # milliseconds per image, of the server
    client: float = 0.0  # the same of the load client
    roles: dict[str, float] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    batch: float = 0.0
    errors: int = 0


class CardServer:
    """A server beside the simulated GPU."""

    def __init__(self, workers: int, batch: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        began = time.monotonic()
        arguments = [str(self.port), str(workers), str(batch)]
        self.process = subprocess.Popen(
            [sys.executable, str(_CARD), *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        while self.ask("/readyz")[0] != 200:
            if self.process.poll() is not None or time.monotonic() - began > 180:
                raise SystemExit("the server did not start")
            time.sleep(0.05)
        self.seconds_to_ready = time.monotonic() - began

    def ask(self, path: str) -> tuple[int, bytes]:
        """Return the status and body of one request."""
        with Connection(self.port) as connection:
            answer = connection.ask("GET", path)
            return answer.status, answer.body

    def list_roles(self) -> dict[str, list[int]]:
        """Return the process ids by role."""
        found: dict[str, list[int]] = {"keeper": [self.process.pid]}
        for child in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            for pid in child.read_text().split():
                name = Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("twinlens-")
                found.setdefault(name, []).append(int(pid))
        return found

    def count_cpu(self) -> dict[str, float]:
        """Return the CPU seconds of each role."""
        roles = self.list_roles()
        if len(roles) == 1:
            return {"all": count_cpu_seconds(self.process.pid)}
        return {name: sum(map(_count_own_cpu, pids)) for name, pids in roles.items()}

    def count_memory(self) -> dict[str, float]:
        """Return the memory of each role in MiB, every page counted once in all."""
        return {
            name: sum(map(_count_share, pids)) / 1024 for name, pids in self.list_roles().items()
        }

    def count_batches(self) -> tuple[float, float]:
        """Return the sum of the sizes of all batches, and their number."""
        lines = self.ask("/metrics")[1].decode().splitlines()
        values = {
            line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines if "{" in line
        }
        return values.get("twinlens_batch_items_sum", 0), values.get(
            "twinlens_batch_items_count", 0
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def press_pictures(
    port: int, clients: int, seconds: float, requests: list[bytes], rate: float
) -> list[tuple[int, float]]:
    """Return statuses and seconds of requests.

    The clients send `rate` per second in all, or, with 0, each the next once it has an answer.
    """
    answers: list[tuple[int, float]] = []
    pause = clients / rate if rate else 0.0

    async def ask(first: int, end: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        await asyncio.sleep(pause * first / clients)
        number = first
        while time.monotonic() < end:
            began = time.perf_counter()
            writer.write(requests[number % PICTURES])
            status = await read_answer(reader)
            taken = time.perf_counter() - began
            answers.append((status, taken))
            await asyncio.sleep(max(0.0, pause - taken))
            number += 1
        writer.close()

    async def run() -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(*(ask(i, end) for i in range(clients)))

    asyncio.run(run())
    return answers


def measure_server(server: CardServer, clients: int, seconds: float, rate: float = 0.0) -> Round:
    """Load a server for a while."""
    batches = server.count_batches()  # reading metrics costs every process time
    before = server.count_cpu()
    told = subprocess.run(
        [sys.executable, __file__, "--client", f"{server.port},{clients},{seconds},{rate}"],
        capture_output=True,
        check=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(told.stdout)
    after = server.count_cpu()
    later = server.count_batches()
    done = max(1, found["done"])
    roles = {name: 1000 * (after[name] - before.get(name, 0.0)) / done for name in after}
    return Round(
        rate=done / found["seconds"],
        cpu=sum(roles.values()),
        client=1000 * found["cpu"] / done,
        roles=roles,
        times=found["times"],
        batch=(later[0] - batches[0]) / max(1, later[1] - batches[1]),
        errors=found["errors"],
    )


def measure_bare(seconds: float) -> Round:
    """Decode with one process per core."""
    command = [sys.executable, "-c", _DECODE, str(_CARD.parents[1]), str(seconds), str(PICTURES)]
    loops = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(len(os.sched_getaffinity(0)))
    ]
    for loop in loops:
        assert loop.stdout is not None
        loop.stdout.readline()
    told = [loop.communicate("go\n")[0].split() for loop in loops]
    done = sum(int(count) for count, _ in told)
    cpu = sum(float(used) for _, used in told)
    return Round(rate=done / seconds, cpu=1000 * cpu / done)


def compare(report: Report, workers: int, clients: int, rounds: int, seconds: float) -> None:
    """Let the contenders alternate; add a row for each, and the bars."""
    found: dict[str, list[Round]] = {}
    many = f"{workers} HTTP processes"
    with CardServer(1, 8) as one, CardServer(1, 64) as large, CardServer(workers, 64) as family:
        report.row(what="start to ready, s", contender="one process", value=one.seconds_to_ready)
        report.row(what="start to ready, s", contender=many, value=family.seconds_to_ready)
        contenders = {"one process, batch 8": one, "one process, batch 64": large, many: family}
        for server in contenders.values():
            measure_server(server, clients, min(2.0, seconds))
        for _ in range(rounds):
            found.setdefault("bare loop", []).append(measure_bare(seconds))
            for name, server in contenders.items():
                found.setdefault(name, []).append(measure_server(server, clients, seconds))
    bare_cpu = statistics.median(r.cpu for r in found["bare loop"])
    bare_rate = statistics.median(r.rate for r in found["bare loop"])
    for name, turns in found.items():
        _add_rows(report, name, turns, bare_cpu, bare_rate)
    ours = found[many]
    cpu = statistics.median(r.cpu for r in ours)
    share = bare_cpu / statistics.median(r.cpu + r.client for r in ours)
    report.bar("workers_share_of_bare_loop_by_cpu", share, _SHARE, share >= _SHARE)
    report.bar("workers_cpu_ms_an_image", cpu, _CPU, cpu <= _CPU)
    errors = sum(r.errors for turns in found.values() for r in turns)
    report.bar("workers_errors", errors, 0, errors == 0)


def _add_rows(
    report: Report, name: str, turns: list[Round], bare_cpu: float, bare_rate: float
) -> None:
    def add(what: str, value: float) -> None:
        report.row(what=what, contender=name, value=value)

    def middle(values: list[float]) -> float:
        return statistics.median(values)

    add("images a second, by the clock", middle([r.rate for r in turns]))
    add("CPU ms an image", middle([r.cpu for r in turns]))
    if name == "bare loop":
        return
    add("of the bare loop, by the clock", middle([r.rate for r in turns]) / bare_rate)
    add("of the bare loop, by CPU time", bare_cpu / middle([r.cpu + r.client for r in turns]))
    add("CPU ms an image, client", middle([r.client for r in turns]))
    for role in turns[0].roles:
        add(f"CPU ms an image, {role}", middle([r.roles.get(role, 0.0) for r in turns]))
    times = sorted(t for r in turns for t in r.times)
    add("p50, ms", 1000 * percentile(times, 0.5))
    add("p99, ms", 1000 * percentile(times, 0.99))
    add("images a batch", middle([r.batch for r in turns]))


def watch_memory(report: Report, workers: int, clients: int, seconds: float, rate: float) -> None:
    """Load for so long, and add the growth of the memory of all processes."""
    errors = 0
    with CardServer(workers, 64) as server:
        measure_server(server, clients, 10.0, rate)  # buffers grow with the first requests
        before = after = server.count_memory()
        for part in range(1, _PARTS + 1):
            errors += measure_server(server, clients, seconds / _PARTS, rate).errors
            after = server.count_memory()
            report.row(what=f"MiB after {part * seconds / _PARTS:.0f} s", value=sum(after.values()))
    for name, value in before.items():
        report.row(what=f"{name}, MiB at first", value=value)
        report.row(what=f"{name}, MiB at last", value=after.get(name, 0.0))
    grown = sum(after.values()) / sum(before.values()) - 1
    report.bar("workers_memory_growth", grown, 0.03, grown <= 0.03)
    report.bar("workers_errors_meanwhile", errors, 0, errors == 0)


def _count_own_cpu(pid: int) -> float:
    """Return the CPU seconds of one process, to the nanosecond."""
    total = 0
    for path in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((path / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return total / 1e9


def _count_share(pid: int) -> int:
    """Return a process's share of memory in KiB: 1/n of a page that n processes map."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _be_client(told: str) -> None:
    port, clients, seconds, rate = told.split(",")
    requests = [
        make_request("/embed", make_photo(seed=i), "image/jpeg", "application/octet-stream")
        for i in range(PICTURES)
    ]
    began, cpu = time.monotonic(), time.process_time()
    answers = press_pictures(int(port), int(clients), float(seconds), requests, float(rate))
    good = [taken for status, taken in answers if status == 200]
    print(
        json.dumps(
            {
                "done": len(good),
                "errors": len(answers) - len(good),
                "seconds": time.monotonic() - began,
                "cpu": time.process_time() - cpu,
                "times": good,
            }
        )
    )


def main() -> None:
    """Compare, or load for long if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--workers", type=int, default=2, help="HTTP processes")
    parser.add_argument("--clients", type=int, default=64, help="connections")
    parser.add_argument("--flat", type=float, default=0.0, metavar="SECONDS", help="memory alone")
    parser.add_argument("--rate", type=float, default=0.0, metavar="N", help="images a second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        _be_client(arguments.client)
        return
    report = Report("workers")
    rounds, seconds = (1, 2.0) if arguments.quick else (3, 5.0)
    if arguments.flat:
        flat, rate = arguments.flat, arguments.rate
        watch_memory(report, arguments.workers, arguments.clients, flat, rate)
    else:
        compare(report, arguments.workers, arguments.clients, rounds, seconds)
    report.finish(arguments.json)


if __name__ == "__main__":
    main()
