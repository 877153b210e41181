"""A server in its own process, on CPUs of its own, and clients that load it."""

from __future__ import annotations

import asyncio
import http.client
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

_TICKS = os.sysconf("SC_CLK_TCK")


def split_cpus() -> tuple[set[int], set[int]]:
    """Return CPUs for the server and CPUs for its clients, separate if there are two or more."""
    cpus = sorted(os.sched_getaffinity(0))
    half = max(1, len(cpus) // 2)
    return (set(cpus[:half]), set(cpus[half:])) if len(cpus) > 1 else (set(cpus), set(cpus))


@contextmanager
def pin(cpus: set[int]) -> Iterator[None]:
    """Keep this thread on some CPUs for a while, so that a client uses none of the server's."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server:
    """`twinlens serve` in another process."""

    workers = "1"  # HTTP processes of every server here

    def __init__(
        self,
        *arguments: str,
        cpus: set[int] | None = None,
        environment: dict[str, str] | None = None,
        show: bool = False,
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "twinlens.cli.main", "serve", *arguments]
        command += ["--workers", self.workers]
        began = time.monotonic()
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--set", "log_requests=false"],
            stderr=None if show else subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            preexec_fn=None if cpus is None else lambda: os.sched_setaffinity(0, cpus),
        )
        self.pid = self.process.pid
        while self.ask("GET", "/readyz").status != 200:
            if self.process.poll() is not None or time.monotonic() - began > 120:
                raise SystemExit("the server did not start")
            time.sleep(0.01)
        self.seconds_to_ready = time.monotonic() - began

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Return the response to one request on a new connection; status 0 if none came."""
        with Connection(self.port) as connection:
            return connection.ask(method, path, body, **headers)

    def stop(self) -> None:
        """Kill it with all that it has started."""
        children = [int(path.name) for path in _children(self.pid)]
        self.process.kill()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


@dataclass(frozen=True)
class Answer:
    """What was returned, and after how long."""

    status: int
    body: bytes
    headers: dict[str, str]
    seconds: float


class Connection:
    """A keep-alive connection."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._http = http.client.HTTPConnection(host, port, timeout=60)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Return the response to one request."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        began = time.perf_counter()
        try:
            self._http.request(method, path, body or None, named)
            response = self._http.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self._http.close()
            return Answer(0, b"", {}, time.perf_counter() - began)
        seconds = time.perf_counter() - began
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, content, found, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()


@dataclass
class Tally:
    """What clients measured."""

    answers: list[tuple[float, int, float]] = field(default_factory=list)  # when, status, seconds

    def count(self, *statuses: int) -> int:
        """Return how many responses had one of these statuses."""
        return sum(status in statuses for _, status, _ in self.answers)

    def seconds(self, status: int = 200) -> list[float]:
        """Return how long the responses of one status took, sorted."""
        return sorted(seconds for _, found, seconds in self.answers if found == status)


class Crowd:
    """Clients that send requests repeatedly until they are told to stop."""

    def __init__(self, clients: int, ask: Callable[[Connection], Answer], port: int) -> None:
        self.tally = Tally()
        self._stop = threading.Event()
        self._ask = ask
        self._port = port
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Tally:
        for thread in self._threads:
            thread.start()
        return self.tally

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with Connection(self._port) as connection:
            while not self._stop.is_set():
                answer = self._ask(connection)
                self.tally.answers.append((time.monotonic(), answer.status, answer.seconds))
                if answer.status == 429:  # clients that obey Retry-After send less than this
                    time.sleep(0.02)


def make_request(path: str, body: bytes, content_type: str, accept: str = "*/*") -> bytes:
    """Return the bytes of a POST."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        f"Accept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def press(port: int, clients: int, request: bytes, seconds: float, rate: float = 0.0) -> Tally:
    """Return what clients measured while they sent requests for so long.

    They send `rate` requests per second in total or, with 0, each as soon as the last was answered.
    """
    tally = Tally()
    pause = clients / rate if rate else 0.0

    async def run() -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(
            *(_ask_until(end, port, request, pause, i / clients, tally) for i in range(clients))
        )

    asyncio.run(run())
    return tally


async def _ask_until(
    end: float, port: int, request: bytes, pause: float, phase: float, tally: Tally
) -> None:
    """Send requests repeatedly, `pause` seconds apart."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(pause * phase)
    while time.monotonic() < end:
        began = time.perf_counter()
        writer.write(request)
        status = await read_answer(reader)
        taken = time.perf_counter() - began
        tally.answers.append((time.monotonic(), status, taken))
        await asyncio.sleep(max(0.0, pause - taken))
    writer.close()


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Read a response with a known length, and return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of sorted values lies; NaN if there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def count_cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of its living children, of all their threads."""
    total = 0.0
    for path in [Path(f"/proc/{pid}"), *_children(pid)]:
        try:
            numbers = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(numbers[11]) + int(numbers[12])) / _TICKS
    return total


def read_cpu_clock(pid: int) -> float:
    """Return the CPU seconds of a process's living threads to the nanosecond."""
    total = 0
    for path in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((path / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return total / 1e9


def count_memory(pid: int) -> float:
    """Return the resident memory of a process and of its children in MiB."""
    total = 0
    for path in [Path(f"/proc/{pid}"), *_children(pid)]:
        lines = (path / "status").read_text().splitlines()
        total += next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
    return total / 1024


def make_photo(width: int = 640, height: int = 480, seed: int = 0) -> bytes:
    """Return a JPEG with the smooth structure of a photograph."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 255, (height // 20, width // 20, 3), dtype=np.uint8)
    smooth = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    smooth.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _children(pid: int) -> list[Path]:
    found: list[Path] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            found += [Path(f"/proc/{child}"), *_children(int(child))]
    return found
