"""A real server in a process of its own, started by the command, asked over a real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest


class Live:
    """A running server."""

    def __init__(self, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "twinlens.cli.main", "serve", *arguments]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)], stderr=subprocess.PIPE, env=dict(os.environ)
        )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("not ready within 20 s")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(15)
        if self.process.stderr:
            self.process.stderr.close()
        return code


@pytest.fixture
def start() -> Iterator[Callable[..., Live]]:
    started: list[Live] = []

    def run(*arguments: str) -> Live:
        started.append(Live(*arguments))
        return started[-1]

    yield run
    for live in started:
        live.stop()


def test_the_command_serves_a_bundle_under_its_name(
    start: Callable[..., Live], toy_bundle: Path, squares: dict[str, bytes]
) -> None:
    live = start(f"squares={toy_bundle}")
    answer = httpx.post(
        f"{live.url}/zeroshot",
        files=[("images", squares["blue"])],
        data={"classes": ["red", "green", "blue"]},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "squares"
    assert answer.json()["data"][0]["labels"][0]["label"] == "blue"
    raw = httpx.post(
        f"{live.url}/embed", content=squares["red"], headers={"content-type": "image/png"}
    )
    assert len(raw.json()["embeddings"][0]) == 16
    assert live.stop() == 130  # interrupted, as by Ctrl-C


def test_a_missing_bundle_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twinlens.cli.main", "serve", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_sigterm_turns_readiness_off_finishes_what_runs_and_exits(
    start: Callable[..., Live], toy_bundle: Path, squares: dict[str, bytes]
) -> None:
    live = start(str(toy_bundle), "--drain-notice", "0.3")
    with httpx.Client(base_url=live.url) as client:
        sock = socket.create_connection(("127.0.0.1", live.port))
        content = squares["red"]
        head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(content)}\r\n\r\n"
        sock.sendall(head.encode() + content[:-5])  # a request that has begun
        time.sleep(0.1)
        live.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        time.sleep(0.4)  # the notice is over: the door is closed
        with pytest.raises(httpx.TransportError), httpx.Client(base_url=live.url) as late:
            late.get("/healthz")
        sock.sendall(content[-5:])
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
        sock.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert live.process.wait(10) == 0


def test_a_killed_server_loses_no_classifier_that_it_acknowledged(
    start: Callable[..., Live], toy_bundle: Path, tmp_path: Path
) -> None:
    arguments = (f"toy={toy_bundle}", "--data", str(tmp_path))
    live = start(*arguments)
    made = [
        httpx.put(f"{live.url}/classifiers/c{i}", json={"classes": ["red", f"thing {i}"]})
        for i in range(5)
    ]
    live.process.kill()
    live.process.wait(5)
    assert [answer.status_code for answer in made] == [201] * 5
    again = start(*arguments)
    found = httpx.get(f"{again.url}/classifiers").json()["data"]
    assert [entry["name"] for entry in found] == [f"c{i}" for i in range(5)]
