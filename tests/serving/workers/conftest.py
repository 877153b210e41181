"""Servers of many processes around the encoder of colours."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

_ROOT = Path(__file__).parents[3]


class ColourFamily:
    """A running server of several processes."""

    def __init__(self, *options: str, workers: int = 2, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "tests.serving.workers.colour_family", str(workers)]
        self.process = subprocess.Popen(
            [*command, str(self.port), "watch.drain_notice=0.2", *options],
            stderr=subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, **environment},
        )
        self.client = httpx.Client(base_url=self.url, timeout=30)
        self.wait_ready()

    def wait_ready(self, seconds: float = 180) -> None:
        """Return when every process serves."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.02)
        raise AssertionError(f"not ready within {seconds} s")

    def find(self, kind: str) -> list[int]:
        """Return the process ids of a kind, by what each is called."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = path.read_text()
                name = path.with_name("comm").read_text().strip()
            except OSError:
                continue
            parent = int(text.rpartition(")")[2].split()[1])
            if parent == self.process.pid and re.fullmatch(f"twinlens-{kind}"[:15], name):
                found.append(int(path.parent.name))
        return sorted(found)

    def kill(self, kind: str) -> int:
        """Kill the first process of a kind; return its id."""
        pid = self.find(kind)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self) -> int:
        """Stop it; return its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(60)
        assert self.process.stderr is not None
        self.log = self.process.stderr.read().decode()
        self.process.stderr.close()
        return code


@pytest.fixture(scope="session")
def colours() -> Iterator[ColourFamily]:
    """One server for all tests that leave it as it was."""
    family = ColourFamily("log_requests=false")
    yield family
    assert family.stop() == 0, family.log


@pytest.fixture
def start_family() -> Iterator[Callable[..., ColourFamily]]:
    """Servers of tests' own."""
    started: list[ColourFamily] = []

    def start(*options: str, workers: int = 2, **environment: str) -> ColourFamily:
        started.append(ColourFamily(*options, workers=workers, **environment))
        return started[-1]

    yield start
    for family in started:
        if family.process.stderr is not None and not family.process.stderr.closed:
            family.stop()
