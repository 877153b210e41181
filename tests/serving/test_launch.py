"""Where a server listens, and the command that it prints, which must work unchanged."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path

import pytest

from twinlens.errors import InputError
from twinlens.serving.launch import ListenAddress, announce, bind_port, suggest_call
from twinlens.serving.observe.logs import JsonFormatter
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings


def test_a_free_port_is_bound_and_announced(capsys: pytest.CaptureFixture[str]) -> None:
    service = Service(ServerSettings(), lambda source, precision: pytest.fail("nothing is opened"))
    with bind_port("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        announce(service, listener)
        assert f"listening on http://127.0.0.1:{port} " in capsys.readouterr().err
        with pytest.raises(ConnectionRefusedError):  # it accepts no connection before it is ready
            socket.create_connection(("127.0.0.1", port), timeout=1)
    service.close()


def test_the_start_is_one_line_of_json_where_logs_are(caplog: pytest.LogCaptureFixture) -> None:
    settings = ServerSettings(log_format="json")
    service = Service(settings, lambda source, precision: pytest.fail("nothing is opened"))
    with bind_port("127.0.0.1", 0) as listener, caplog.at_level(logging.INFO, "twinlens.serving"):
        announce(service, listener, "https")
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    (record,) = caplog.records
    line = json.loads(JsonFormatter().format(record))
    assert (line["url"], line["models"]) == (url, {})
    service.close()


def test_https_needs_a_certificate_and_its_key(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    with pytest.raises(InputError, match="belong together"):
        ListenAddress("127.0.0.1", 0, junk).check()
    with pytest.raises(InputError, match=r"--tls-key '.*none.pem' is not a file"):
        ListenAddress("127.0.0.1", 0, junk, tmp_path / "none.pem").check()
    with pytest.raises(InputError, match="not a PEM certificate"):
        ListenAddress("127.0.0.1", 0, junk, junk).check()


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
