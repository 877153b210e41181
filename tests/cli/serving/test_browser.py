"""`--open` opens the page once the server accepts connections, and not before."""

from __future__ import annotations

import socket
import time

import pytest

from twinlens.cli.serving.browser import open_when_ready


def test_the_page_is_opened_when_the_server_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        waiter = open_when_ready(listener, "http")
        time.sleep(0.3)
        assert opened == []
        listener.listen()
        waiter.join(10)
        assert opened == [f"http://127.0.0.1:{listener.getsockname()[1]}/"]
