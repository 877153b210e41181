"""A real server in its own process, started by the command and called over a real socket."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from twinlens.bundle.encoder import open_bundle
from twinlens.client import Client
from twinlens.serving.zeroshot.classifiers import ClassifierStore

# Two HTTP processes promise what one process does.
WORKERS = pytest.mark.parametrize(
    "workers", ["1", pytest.param("2", marks=pytest.mark.slow)], ids=["one process", "two workers"]
)
CERTIFICATE = Path(__file__).parent / "kept" / "localhost.pem"


class Live:
    """A running server."""

    def __init__(self, *arguments: str) -> None:
        # Only for these tests: a certificate for localhost, and its key, which is no secret.
        is_https = "--tls-cert" in arguments
        self.context = ssl.create_default_context(cafile=CERTIFICATE) if is_https else True
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http{'s' * is_https}://127.0.0.1:{self.port}"
        # A parent in the background of a shell makes its children ignore SIGINT.
        start = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "from twinlens.cli.main import run; run()"
        )
        command = [sys.executable, "-c", start, "serve", *arguments]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)], stderr=subprocess.PIPE, env=dict(os.environ)
        )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            try:
                if httpx.get(f"{self.url}/readyz", verify=self.context).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("not ready within 60 s")

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


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two workers"])
def live(toy_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Live]:
    """One server for the tests that do not change it."""
    server = Live(f"squares={toy_bundle}", "--workers", request.param)
    yield server
    assert server.stop() == 130  # interrupted, as by Ctrl-C


def test_the_command_serves_a_bundle_under_its_name(live: Live, squares: dict[str, bytes]) -> None:
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


def test_the_served_embeddings_are_the_library_s_own(
    live: Live, toy_bundle: Path, squares: dict[str, bytes]
) -> None:
    expected = open_bundle(toy_bundle).embed_images(list(squares.values()))
    answer = httpx.post(
        f"{live.url}/embed",
        files=[("images", image) for image in squares.values()],
        headers={"accept": "application/octet-stream"},
    )
    rows = np.frombuffer(answer.content, "<f4").reshape(expected.shape)
    assert np.allclose(rows, expected, atol=1e-6)


def test_the_openai_client_works_unmodified(live: Live) -> None:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        made = client.embeddings.create(model="squares", input=["red square", "blue square"])
        assert [entry.index for entry in made.data] == [0, 1]
        assert np.linalg.norm(made.data[0].embedding) == pytest.approx(1, abs=1e-6)
        assert made.usage.total_tokens > 0
        plain = client.embeddings.create(
            model="squares", input="red square", encoding_format="float"
        )
        assert np.allclose(plain.data[0].embedding, made.data[0].embedding)
        assert [model.id for model in client.models.list()] == ["squares"]
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="squares", input=["a", ""])
        assert caught.value.param == "input[1]"
        with pytest.raises(openai.NotFoundError) as missing:
            client.embeddings.create(model="gpt", input="a")
        assert missing.value.code == "model_not_found"


def test_a_missing_bundle_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    runner = subprocess.run(
        [sys.executable, "-m", "twinlens.cli.main", "serve", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert runner.returncode == 2
    assert runner.stderr.startswith("error: ")
    assert len(runner.stderr.strip().splitlines()) == 1


@WORKERS
def test_sigterm_turns_readiness_off_finishes_running_requests_and_exits(
    start: Callable[..., Live], toy_bundle: Path, squares: dict[str, bytes], workers: str
) -> None:
    live = start(str(toy_bundle), "--drain-notice", "1", "--workers", workers)
    content = squares["red"]
    head = (
        "POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", live.port)) as sock:
        sock.sendall(head.encode() + content[:-5])  # a request that has begun
        time.sleep(0.1)
        live.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 0.9
        status = 200
        while status == 200 and time.monotonic() < end:
            status = httpx.get(f"{live.url}/readyz").status_code
        assert status == 503
        with pytest.raises(httpx.TransportError):  # the notice ends: the socket closes
            while time.monotonic() < end + 10:
                httpx.get(f"{live.url}/healthz")
        sock.sendall(content[-5:])
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200")
    assert live.process.wait(10) == 0


@WORKERS
def test_a_killed_server_loses_no_classifier_that_it_acknowledged(
    start: Callable[..., Live], toy_bundle: Path, tmp_path: Path, workers: str
) -> None:
    live = start(f"toy={toy_bundle}", "--data", str(tmp_path), "--workers", workers)
    made = [
        httpx.put(f"{live.url}/classifiers/c{i}", json={"classes": ["red", f"thing {i}"]})
        for i in range(5)
    ]
    live.process.kill()
    live.process.wait(5)
    assert [answer.status_code for answer in made] == [201] * 5
    found = ClassifierStore(tmp_path / "classifiers").all()
    assert [classifier.name for classifier in found] == [f"c{i}" for i in range(5)]


def test_a_second_server_on_the_same_data_is_one_line_and_exit_code_2(
    start: Callable[..., Live], toy_bundle: Path, tmp_path: Path
) -> None:
    first = start(f"toy={toy_bundle}", "--data", str(tmp_path))
    second = [sys.executable, "-m", "twinlens.cli.main", "serve", f"toy={toy_bundle}"]
    told = subprocess.run(
        [*second, "--data", str(tmp_path), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 2
    assert f"in use by process {first.process.pid} on " in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
    first.process.kill()
    first.process.wait(5)
    start(f"toy={toy_bundle}", "--data", str(tmp_path))  # the dead hold nothing


@pytest.mark.slow
def test_a_killed_server_resumes_its_job_from_the_saved_rows(
    start: Callable[..., Live], tmp_path: Path
) -> None:
    classes = [f"thing number {i}" for i in range(400)]
    live = start("--data", str(tmp_path), "--threads", "1")
    body = {"classes": classes, "templates": "broad", "background": True}
    accepted = httpx.put(f"{live.url}/classifiers/many", json=body)
    assert accepted.status_code == 202
    job = f"/jobs/{accepted.json()['job']['id']}"
    while not list((tmp_path / "jobs").glob("*.partial.npz")):
        assert httpx.get(live.url + job).json()["state"] in ("queued", "running")
        time.sleep(0.02)
    live.process.kill()
    live.process.wait(5)

    again = start("--data", str(tmp_path), "--threads", "1")
    first = httpx.get(again.url + job).json()
    assert first["done"] > 0
    end = time.monotonic() + 120
    while (found := httpx.get(again.url + job).json())["finished"] is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert (found["state"], found["progress"]) == ("done", 1.0)
    stored = httpx.get(f"{again.url}/classifiers/many").json()
    assert stored["classes"] == classes
    assert len(stored["templates"]) == 80


def test_the_python_client_works_against_a_real_server(
    live: Live, squares: dict[str, bytes]
) -> None:
    with Client(live.url, part=2) as client:
        rows = client.embed_images(list(squares.values()))
        entries = client.zero_shot([squares["green"]], classes=["red", "green"])
        assert rows.shape == (3, 16)
        assert entries[0]["labels"][0]["label"] == "green"


@WORKERS
def test_https_is_answered_with_the_certificate(start: Callable[..., Live], workers: str) -> None:
    key = CERTIFICATE.with_suffix(".key")
    live = start("--tls-cert", str(CERTIFICATE), "--tls-key", str(key), "--workers", workers)
    with httpx.Client(base_url=live.url, verify=live.context) as client:
        for _ in range(2):  # the second on the same connection
            answer = client.post("/embed", json={"texts": ["red"]})
            assert answer.status_code == 200
        assert client.get("/nowhere").status_code == 404
    with pytest.raises(httpx.ConnectError):  # nobody else vouches for it
        httpx.get(live.url + "/readyz")
    live.stop()
