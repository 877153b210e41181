"""The door in the protocol: refusals on raw sockets, and connections that go on after them."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from twinlens.serving.app import build_app, surround
from twinlens.serving.protocol import build_protocol
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits, Settings


class Full:
    """A server with one place for images, which is taken; and a socket to speak to it."""

    def __init__(self, encoder: Any, photo: bytes) -> None:
        self.encoder = encoder
        self.service = Service(
            Settings(limits=Limits(image_queue=1)), lambda source, precision: encoder
        )
        self.service.load("colours", "colours")
        app = surround(build_app(self.service))
        config = uvicorn.Config(
            app,
            http=build_protocol(app),
            port=0,
            log_config=None,
            server_header=False,
            timeout_keep_alive=1,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = int(self.server.servers[0].sockets[0].getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        encoder.gate.clear()
        headers = {"content-type": "image/png"}
        self.first = threading.Thread(
            target=lambda: httpx.post(f"{self.url}/embed", content=photo, headers=headers)
        )
        self.first.start()
        images = self.service.registry.models()[0].images
        assert images is not None
        while not images.batcher.is_full:
            time.sleep(0.005)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def stop(self) -> None:
        self.encoder.gate.set()
        self.first.join()
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture
def full(encoder: Any, image: Callable[..., bytes]) -> Iterator[Full]:
    found = Full(encoder, image())
    yield found
    found.stop()


def head(length: int, *more: str) -> bytes:
    lines = ["POST /embed HTTP/1.1", "Host: x", "Content-Type: image/png", *more]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def read_answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return the next answer on a connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(1)
        assert chunk, f"the connection ended after {data!r}"
        data += chunk
    lines = data.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    body = b""
    while len(body) < (length := int(headers["content-length"])):
        body += sock.recv(length - len(body))
    return int(lines[0].split()[1]), headers, body


GET = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_refusal_comes_before_the_body_and_the_connection_goes_on(full: Full) -> None:
    with full.connect() as sock:
        sock.sendall(head(300_000, "X-Request-Id: mine"))
        status, headers, body = read_answer(sock)  # not a byte of the body was sent
        assert status == 429
        assert json.loads(body)["error"]["type"] == "rate_limit_error"
        assert headers["x-request-id"] == "mine"
        assert int(headers["retry-after"]) >= 1
        sock.sendall(b"x" * 200_000)
        time.sleep(0.05)
        sock.sendall(b"x" * 100_000 + GET)
        assert read_answer(sock)[0] == 200


def test_the_answer_is_the_one_that_the_application_would_give(full: Full) -> None:
    with full.connect() as sock:
        sock.sendall(head(3) + b"abc")
        _, headers, body = read_answer(sock)
    same = asyncio.run(ask_directly(surround(build_app(full.service))))
    assert same.status_code == 429
    assert body == same.content
    varying = ("date", "x-request-id", "retry-after", "retry-after-ms")
    plain = {k: v for k, v in headers.items() if k not in varying}
    assert plain == {k.lower(): v.lower() for k, v in same.headers.items() if k not in varying}
    assert set(headers) - {"date"} == {k.lower() for k in same.headers}


async def ask_directly(app: Any) -> httpx.Response:
    """Ask an application with no protocol between."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        headers = {"content-type": "image/png"}
        return await http.post("http://x/embed", content=b"abc", headers=headers)


def test_many_refusals_follow_each_other_on_one_connection(full: Full) -> None:
    with full.connect() as sock:
        sock.sendall((head(5) + b"abcde") * 3)  # all at once
        assert [read_answer(sock)[0] for _ in range(3)] == [429] * 3
        sock.sendall(GET)
        assert read_answer(sock)[0] == 200
    told = httpx.get(f"{full.url}/metrics").text
    assert 'twinlens_rejects_total{at="door",model=""} 3.0' in told
    assert 'twinlens_requests_total{path="/embed",status="429"} 3.0' in told


def test_refusals_are_told_in_one_line_a_second(
    full: Full, caplog: pytest.LogCaptureFixture
) -> None:
    with full.connect() as sock:
        for _ in range(20):
            sock.sendall(head(5) + b"abcde")
            assert read_answer(sock)[0] == 429
    told = [r.getMessage() for r in caplog.records if "refused at the door" in r.getMessage()]
    assert told[0] == "no room: 1 requests refused at the door"
    assert len(told) < 10


def test_a_request_behind_one_that_is_answered_by_the_application_waits_its_turn(
    full: Full,
) -> None:
    with full.connect() as sock:
        sock.sendall(GET + head(5) + b"abcde" + GET)
        assert [read_answer(sock)[0] for _ in range(3)] == [200, 429, 200]


def test_who_asks_before_sending_is_told_and_let_go(full: Full) -> None:
    with full.connect() as sock:
        sock.sendall(head(300_000, "Expect: 100-continue"))
        assert read_answer(sock)[0] == 429
        assert sock.recv(1) == b""


@pytest.mark.parametrize("more", [["Connection: close"], []])
def test_a_connection_ends_when_the_client_says_so_or_stops_sending(
    full: Full, more: list[str]
) -> None:
    with full.connect() as sock:
        sock.sendall(head(300_000, *more) + b"x" * 1000)
        assert read_answer(sock)[0] == 429
        assert sock.recv(1) == b""  # at once, or when the time of an idle connection is over


def test_what_has_room_is_let_in(full: Full, image: Callable[..., bytes]) -> None:
    full.encoder.gate.set()
    full.first.join()
    with full.connect() as sock:
        sock.sendall(head(len(image())) + image())
        assert read_answer(sock)[0] == 200
