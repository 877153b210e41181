"""One connection on raw sockets: each request is answered at most once, and bodies stay bodies."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.serving.admission.wire import exchange, read_all, split_answers, statuses
from twinlens.serving.settings import Limits, ServerSettings

JSON = b"Content-Type: application/json\r\n"
BODY = b'{"texts": ["red"]}'
GET = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLED = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def server(listen: Callable[[ServerSettings], Any]) -> Any:
    return listen(ServerSettings())


def post(body: bytes, *fields: bytes, path: bytes = b"/embed") -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: x", *fields]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", b""])


UPGRADES = [
    (b"Connection: Upgrade", b"Upgrade: h2c"),
    (b"Connection: Upgrade", b"Upgrade: websocket"),
    (b"Connection: keep-alive, upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"),
    (b"connection: UPGRADE", b"upgrade: foo/2, h2c"),
]


@pytest.mark.parametrize("fields", UPGRADES)
def test_a_body_behind_an_upgrade_header_is_never_read_as_a_request(
    server: Any, fields: tuple[bytes, ...]
) -> None:
    head = post(SMUGGLED, *fields)
    assert len(exchange(server, head, SMUGGLED)) == 1  # the head alone, then the body
    assert len(exchange(server, head + SMUGGLED)) == 1
    assert len(exchange(server, head + SMUGGLED[:7], SMUGGLED[7:])) == 1


@pytest.mark.parametrize("fields", UPGRADES)
def test_an_upgrade_is_passed_over_and_the_request_answered_as_it_stands(
    server: Any, fields: tuple[bytes, ...]
) -> None:
    head = post(BODY, JSON.strip(), *fields)
    for segments in ([head, BODY], [head + BODY], [head[:30], head[30:], BODY + GET]):
        answers = exchange(server, *segments)
        assert statuses(answers) == [200] * len(answers)
        assert answers[0].body.startswith(b'{"embeddings"')
        assert "upgrade" not in answers[0].headers


def test_two_requests_with_an_upgrade_in_one_segment_get_two_answers(server: Any) -> None:
    upgrade = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert statuses(exchange(server, upgrade + upgrade + GET)) == [200, 200, 200]


def test_a_chunked_body_behind_an_upgrade_is_read(server: Any) -> None:
    lines = [b"POST /embed HTTP/1.1", b"Host: x", JSON.strip(), b"Transfer-Encoding: chunked"]
    head = b"\r\n".join([*lines, b"Connection: Upgrade", b"Upgrade: h2c", b"", b""])
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    assert statuses(exchange(server, head, body + GET)) == [200, 200]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_that_offers_http2_gets_its_answer(server: Any) -> None:
    asked = ["-H", "content-type: application/json", "-d", BODY.decode(), f"{server.url}/embed"]
    told = subprocess.run(
        ["curl", "-sS", "--http2", "-w", " %{http_code} %{http_version}", *asked],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert told.stdout.startswith('{"embeddings"'), told
    assert told.stdout.endswith(" 200 1.1")


def test_connect_is_refused_and_the_connection_closed(server: Any) -> None:
    answers = exchange(server, b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    assert statuses(answers) == [400]
    assert answers[0].headers["connection"] == "close"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /readyz\r\n\r\n",  # HTTP/0.9
        b"GET /readyz HTTP/0.9\r\nHost: x\r\n\r\n",
        b"GET /readyz HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\n\r\n",  # no Host
        b"GET /readyz HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET /readyz HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: x/y\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: u@x\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /embed HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_a_head_that_is_not_http_is_a_400_and_the_end(server: Any, head: bytes) -> None:
    answers = exchange(server, head + GET)
    assert statuses(answers) == [400]
    assert answers[0].headers["connection"] == "close"
    assert answers[0].headers["x-content-type-options"] == "nosniff"
    assert b'"error"' in answers[0].body


def test_http_1_0_needs_no_host(server: Any) -> None:
    assert statuses(exchange(server, b"GET /readyz HTTP/1.0\r\n\r\n")) == [200]


def test_a_fault_is_answered_after_the_requests_before_it(server: Any) -> None:
    slow = threading.Timer(0.3, server.encoder.gate.set)
    server.encoder.gate.clear()
    slow.start()
    head = post(BODY, JSON.strip())
    with server.connect() as sock:
        sock.sendall(head + BODY + GET + b"nonsense\r\n\r\n" + GET)
        assert statuses(split_answers(read_all(sock, 2))) == [200, 200, 400]
    slow.join()


def test_a_broken_body_of_a_request_that_was_answered_ends_without_a_second_answer(
    server: Any,
) -> None:
    lines = [b"POST /nothing HTTP/1.1", b"Host: x", b"Transfer-Encoding: chunked", b"", b""]
    answers = exchange(server, b"\r\n".join(lines), b"nonsense\r\n", GET)
    assert statuses(answers) == [404]


def test_a_broken_body_of_a_request_that_waits_is_one_400(server: Any) -> None:
    lines = [b"POST /embed HTTP/1.1", b"Host: x", JSON.strip(), b"Transfer-Encoding: chunked"]
    head = b"\r\n".join([*lines, b"", b""])
    assert statuses(exchange(server, head, b"nonsense\r\n", GET)) == [400]
    server.encoder.gate.clear()  # and behind one that is still being answered
    threading.Timer(0.3, server.encoder.gate.set).start()
    first = post(BODY, JSON.strip()) + BODY
    assert statuses(exchange(server, first + head + b"nonsense\r\n", GET)) == [200, 400]


def test_trailers_are_not_headers(server: Any) -> None:
    lines = [b"POST /embed HTTP/1.1", b"Host: x", JSON.strip(), b"Transfer-Encoding: chunked"]
    body = b"%x\r\n%s\r\n0\r\nX-Request-Id: late\r\n\r\n" % (len(BODY), BODY)
    answers = exchange(server, b"\r\n".join([*lines, b"", b""]) + body)
    assert statuses(answers) == [200]
    assert answers[0].headers["x-request-id"] != "late"


@pytest.fixture
def hasty(listen: Callable[[ServerSettings], Any]) -> Any:
    return listen(ServerSettings(limits=Limits(head_bytes=2000, head_fields=10, head_seconds=1.0)))


FIRST = b"GET /readyz HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "head",
    [
        FIRST + b"A: " + b"x" * 2000 + b"\r\n\r\n",
        FIRST + b"A: " + b"x" * 4000,  # without end
        FIRST + b"A" * 4000,
        FIRST + b"".join(b"A%d: x\r\n" % i for i in range(10)) + b"\r\n",
        b"GET /" + b"x" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"x" * 4000,
        b"\r\n" * 2000,
    ],
)
def test_a_head_over_the_limit_is_a_431_and_the_end(hasty: Any, head: bytes) -> None:
    answers = exchange(hasty, head)
    assert statuses(answers) == [431]
    assert answers[0].headers["connection"] == "close"
    pieces = [head[i : i + 500] for i in range(0, len(head), 500)]
    assert statuses(exchange(hasty, *pieces, pause=0.005)) == [431]


def test_a_head_at_the_limit_is_answered_and_each_head_is_counted_by_itself(hasty: Any) -> None:
    head = FIRST + b"A: " + b"x" * 1900 + b"\r\n"
    assert statuses(exchange(hasty, (head + b"\r\n") * 5)) == [200] * 5
    many = FIRST + b"".join(b"A%d: x\r\n" % i for i in range(9)) + b"\r\n"
    assert statuses(exchange(hasty, many * 5)) == [200] * 5
    large = FIRST + b"A: " + b"x" * 2100 + b"\r\n\r\n"
    assert statuses(exchange(hasty, many + large + many)) == [200, 431]  # in one segment


def test_endless_trailers_are_cut_off(hasty: Any) -> None:
    lines = [b"POST /embed HTTP/1.1", b"Host: x", JSON.strip(), b"Transfer-Encoding: chunked"]
    body = b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY)
    head = b"\r\n".join([*lines, b"", b""])
    assert statuses(exchange(hasty, head + body, b"A: x\r\n" * 200, b"A: x\r\n" * 200)) == [431]
    assert statuses(exchange(hasty, head + body + b"A: ", b"x" * 1500, b"x" * 1500)) == [431]


def test_a_head_that_does_not_come_in_time_is_a_408_and_silence_is_closed(hasty: Any) -> None:
    with hasty.connect() as slow, hasty.connect() as silent:
        slow.sendall(FIRST)
        assert statuses(split_answers(read_all(slow, 4))) == [408]
        assert read_all(silent, 4) == b""
        assert silent.recv(1) == b""  # closed, not only silent
    with hasty.connect() as dripping:
        dripping.sendall(GET)
        for _ in range(8):  # a second head on the same connection, drop by drop
            time.sleep(0.2)
            dripping.sendall(b"G" if _ == 0 else b"")
        assert statuses(split_answers(read_all(dripping, 4))) == [200, 408]


def test_an_answered_connection_stays_open_for_a_while(server: Any) -> None:
    with server.connect() as sock:
        for _ in range(4):  # more often than once a second, which is how long it may be idle here
            sock.sendall(GET)
            time.sleep(0.4)
        began = time.monotonic()
        assert statuses(split_answers(read_all(sock, 8))) == [200] * 4
        assert time.monotonic() - began > 0.4


def test_an_answered_connection_without_a_next_request_is_closed(server: Any) -> None:
    with server.connect() as sock:
        sock.sendall(GET)
        assert statuses(split_answers(read_all(sock, 8))) == [200]
        assert sock.recv(1) == b""  # closed, not only silent


def test_heads_without_end_take_no_memory(server: Any) -> None:
    before = count_resident_bytes()
    with server.connect() as sock:
        sock.sendall(FIRST + b"A: ")
        sent = 0
        try:
            while sent < 100_000_000:
                sock.sendall(b"x" * 1_000_000)
                sent += 1_000_000
        except OSError:
            pass
    assert sent < 20_000_000
    assert count_resident_bytes() - before < 20_000_000


def count_resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
