"""Admission in the protocol: refusals on raw sockets, and connections that stay open after them."""

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

from tests.serving.admission.wire import read_answer
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.settings import Limits, ServerSettings


@pytest.fixture
def full(listen: Callable[[ServerSettings], Any], image: Callable[..., bytes]) -> Iterator[Any]:
    """A server with an image queue of one place, which is full."""
    found = listen(ServerSettings(limits=Limits(image_queue=1)))
    found.encoder.gate.clear()
    first = threading.Thread(
        target=lambda: httpx.post(f"{found.url}/embed", content=image(), headers=PNG)
    )
    first.start()
    while found.images.room:
        time.sleep(0.005)
    yield found
    found.encoder.gate.set()
    first.join()


def head(length: int, *more: str) -> bytes:
    lines = ["POST /embed HTTP/1.1", "Host: x", "Content-Type: image/png", *more]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def until(claim: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not claim():
        assert time.monotonic() < end, "did not become true"
        time.sleep(0.005)


PNG = {"content-type": "image/png"}
GET = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_refusal_precedes_the_body_and_the_connection_stays_open(full: Any) -> None:
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


def test_a_refusal_equals_the_answer_of_the_application(full: Any) -> None:
    with full.connect() as sock:
        sock.sendall(head(3) + b"abc")
        _, headers, body = read_answer(sock)
    same = asyncio.run(ask_directly(add_middleware(build_app(full.service))))
    assert same.status_code == 429
    assert body == same.content
    varying = ("date", "x-request-id", "retry-after", "retry-after-ms")
    plain = {k: v for k, v in headers.items() if k not in varying}
    assert plain == {k.lower(): v.lower() for k, v in same.headers.items() if k not in varying}
    assert set(headers) - {"date"} == {k.lower() for k in same.headers}


async def ask_directly(app: Any) -> httpx.Response:
    """Call the application without the HTTP protocol."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        return await http.post("http://x/embed", content=b"abc", headers=PNG)


def test_one_connection_receives_several_refusals_in_a_row(full: Any) -> None:
    with full.connect() as sock:
        sock.sendall((head(5) + b"abcde") * 3)  # all at once
        assert [read_answer(sock)[0] for _ in range(3)] == [429] * 3
        sock.sendall(GET)
        assert read_answer(sock)[0] == 200
    metrics = httpx.get(f"{full.url}/metrics").text
    assert 'twinlens_rejects_total{at="admission",model=""} 3.0' in metrics
    assert 'twinlens_requests_total{path="/embed",status="429"} 3.0' in metrics


def test_refusals_are_logged_in_one_line_per_second(
    full: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with full.connect() as sock:
        for _ in range(20):
            sock.sendall(head(5) + b"abcde")
            assert read_answer(sock)[0] == 429
    lines = [r.getMessage() for r in caplog.records if "refused on arrival" in r.getMessage()]
    assert lines[0] == "overloaded: 1 requests refused on arrival"
    assert len(lines) < 10


def test_a_pipelined_request_waits_for_the_answer_before_it(
    full: Any,
) -> None:
    with full.connect() as sock:
        sock.sendall(GET + head(5) + b"abcde" + GET)
        assert [read_answer(sock)[0] for _ in range(3)] == [200, 429, 200]


def test_a_client_that_expects_100_continue_is_refused_before_sending(full: Any) -> None:
    with full.connect() as sock:
        sock.sendall(head(300_000, "Expect: 100-continue"))
        assert read_answer(sock)[0] == 429
        assert sock.recv(1) == b""


@pytest.mark.parametrize("more", [["Connection: close"], []])
def test_a_connection_closes_on_request_or_when_the_client_stops_sending(
    full: Any, more: list[str]
) -> None:
    with full.connect() as sock:
        sock.sendall(head(300_000, *more) + b"x" * 1000)
        assert read_answer(sock)[0] == 429
        assert sock.recv(1) == b""  # at once, or after the idle timeout


def test_a_request_within_capacity_is_admitted(full: Any, image: Callable[..., bytes]) -> None:
    full.encoder.gate.set()
    until(lambda: full.images.room > 0)
    with full.connect() as sock:
        sock.sendall(head(len(image())) + image())
        assert read_answer(sock)[0] == 200


def test_a_refusal_is_counted_and_not_timed(full: Any) -> None:
    with full.connect() as sock:
        sock.sendall(head(3) + b"abc")
        assert read_answer(sock)[0] == 429
    metrics = httpx.get(f"{full.url}/metrics").text
    assert 'twinlens_requests_total{path="/embed",status="429"} 1.0' in metrics
    assert 'twinlens_request_seconds_count{path="/embed"}' not in metrics


def test_a_refused_body_is_never_parsed_as_a_request(full: Any) -> None:
    inner = GET + head(5) + b"abcde" + GET
    with full.connect() as sock:
        sock.sendall(head(len(inner)) + inner)
        assert read_answer(sock)[0] == 429
        sock.sendall(GET)
        assert b'"ready"' in read_answer(sock)[2]
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)  # two requests, two answers


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: +5"],
        ["Content-Length: 5", "Transfer-Encoding : chunked"],
    ],
)
def test_an_ambiguous_content_length_closes_the_connection(full: Any, lines: list[str]) -> None:
    start = ["POST /embed HTTP/1.1", "Host: x", "Content-Type: image/png"]
    with full.connect() as sock:
        sock.sendall("\r\n".join([*start, *lines, "", ""]).encode() + b"0\r\n\r\n" + GET)
        answers = b""
        while chunk := sock.recv(65536):
            answers += chunk
    assert b"200 OK" not in answers
    assert b"400" in answers.splitlines()[0]


@pytest.mark.parametrize("start", ["POST /embed HTTP/1.1", "POST /embed HTTP/1.0"])
def test_a_client_that_is_still_sending_can_read_the_refusal_before_the_close(
    full: Any, start: str
) -> None:
    lines = [start, "Host: x", "Content-Type: image/png", "Connection: close"]
    size = 8_000_000  # more than the sockets' buffers hold
    with full.connect() as sock:
        sock.sendall("\r\n".join([*lines, f"Content-Length: {size}", "", ""]).encode())
        time.sleep(0.05)  # the answer was sent, and the connection is about to close
        sock.sendall(b"x" * size)
        status, headers, _ = read_answer(sock)
        assert (status, headers["connection"]) == (429, "close")
        assert sock.recv(1) == b""


def test_a_closing_connection_answers_no_further_request(full: Any) -> None:
    with full.connect() as sock:
        sock.sendall(head(3, "Connection: close") + b"abc" + GET)
        assert read_answer(sock)[0] == 429
        assert sock.recv(1) == b""


def test_an_endless_refused_body_closes_the_connection(
    listen: Callable[[ServerSettings], Any],
) -> None:
    server = listen(ServerSettings(limits=Limits(image_queue=0, body_bytes=100_000)))
    lines = ["POST /embed HTTP/1.1", "Host: x", "Content-Type: image/png"]
    with server.connect() as sock:
        sock.sendall("\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode())
        assert read_answer(sock)[0] == 429
        with pytest.raises(OSError):
            for _ in range(100):
                sock.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                time.sleep(0.01)


def test_a_client_that_sends_without_reading_is_disconnected(full: Any) -> None:
    with full.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(0.2)
        with pytest.raises(OSError):  # the connection closes before all is sent
            for _ in range(200):
                sock.sendall(head(0) * 2000)
        until(lambda: len(full.server.server_state.connections) == 1)  # that of the fixture
    assert httpx.get(f"{full.url}/healthz").status_code == 200


def test_a_refused_protocol_upgrade_gets_one_answer(full: Any) -> None:
    with full.connect() as sock:
        sock.sendall(head(3, "Connection: Upgrade", "Upgrade: websocket") + b"abc")
        assert read_answer(sock)[0] == 429
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_a_page_of_an_allowed_origin_can_read_a_refusal(
    listen: Callable[[ServerSettings], Any],
) -> None:
    server = listen(
        ServerSettings(limits=Limits(image_queue=0), cors_origins=("https://shop.test",))
    )
    for origin, allowed in (
        ("https://shop.test", "https://shop.test"),
        ("https://evil.test", None),
    ):
        answer = httpx.post(
            f"{server.url}/embed", content=b"abc", headers={**PNG, "origin": origin}
        )
        assert answer.status_code == 429
        assert answer.headers.get("access-control-allow-origin") == allowed
        shown = answer.headers.get("access-control-expose-headers", "")
        assert ("Retry-After" in shown) == (allowed is not None)
