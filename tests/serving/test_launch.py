"""Where a server listens, and the command that it prints, which must work unchanged."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from twinlens.errors import InputError
from twinlens.serving.launch import announce, bind_port, suggest_call
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings


def test_a_free_port_is_bound_and_announced() -> None:
    service = Service(ServerSettings(), lambda source, precision: pytest.fail("nothing is opened"))
    with bind_port("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert f"listening on http://127.0.0.1:{port} " in announce(service, listener)[0]
        with pytest.raises(ConnectionRefusedError):  # it accepts no connection before it is ready
            socket.create_connection(("127.0.0.1", port), timeout=1)
    service.close()


def test_a_port_in_use_is_reported_before_anything_is_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port}: Address already in use; .*--port"):
            bind_port("127.0.0.1", port)


def test_a_picture_that_exists_is_classified(tmp_path: Path) -> None:
    picture = tmp_path / "heart.png"
    picture.write_bytes(b"png")
    assert f"/zeroshot -F images=@{picture}" in suggest_call("http://h:1", picture)


def test_without_a_picture_a_text_is_embedded(tmp_path: Path) -> None:
    line = suggest_call("http://h:1", tmp_path / "none.png")
    assert line.startswith("curl http://h:1/embed")
    assert "a red heart" in line
