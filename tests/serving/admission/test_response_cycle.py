"""Answers on the wire: framed as they say, and no header adds a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.serving.admission.wire import exchange, read_all, statuses
from twinlens.serving.settings import ServerSettings


@pytest.mark.parametrize("value", [b"a\r\nSet-Cookie: x", b"a\nb", b"a\rb", b"a\0b"])
def test_a_header_of_an_answer_cannot_add_a_line(
    listen: Callable[[ServerSettings], Any], monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    server = listen(ServerSettings())
    monkeypatch.setattr(
        "twinlens.serving.admission.middleware.SECURITY_HEADERS", ((b"x-name", value),)
    )
    with server.connect() as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        told = read_all(sock, 1)
    assert b"Set-Cookie" not in told
    assert value not in told


def test_an_answer_without_a_length_is_chunked_and_one_without_a_body_is_not(
    listen: Callable[[ServerSettings], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = listen(ServerSettings())

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    monkeypatch.setattr(server.app, "_app", stream)
    with server.connect() as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        told = read_all(sock, 0.3)
    assert b"transfer-encoding: chunked\r\n" in told
    assert told.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


def test_an_http_1_0_client_is_answered_with_close(listen: Callable[[ServerSettings], Any]) -> None:
    answers = exchange(listen(ServerSettings()), b"GET /healthz HTTP/1.0\r\n\r\n")
    assert statuses(answers) == [200]
    assert answers[0].headers["connection"] == "close"
