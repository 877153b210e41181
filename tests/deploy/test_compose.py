"""The compose file's front: nginx with its configuration, before a real server, asked by HTTPS."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from .conftest import ROOT

pytestmark = pytest.mark.deploy

COMPOSE = ROOT / "deploy" / "compose"
KEPT = ROOT / "tests" / "serving" / "kept"


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(url: str, context: ssl.SSLContext | bool = True) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if httpx.get(url, verify=context).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@pytest.fixture
def front(nginx: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """Run the server as the image does, and nginx before it, on free ports."""
    inner, plain, secure = find_port(), find_port(), find_port()
    text = (COMPOSE / "nginx.conf").read_text()
    for before, after in (
        ("server twinlens:8000", f"server 127.0.0.1:{inner}"),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{secure} ssl;"),
        ("/etc/nginx/tls/cert.pem", str(KEPT / "localhost.pem")),
        ("/etc/nginx/tls/key.pem", str(KEPT / "localhost.key")),
        ("http {", f"http {{\n{_list_paths(tmp_path)}"),
    ):
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off;\npid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\n{text}"
    )
    environment = os.environ | {"TWINLENS_CONFIG": str(COMPOSE / "twinlens.toml")}
    server = subprocess.Popen(
        [sys.executable, "-m", "twinlens", "serve", "--host", "0.0.0.0", "--port", str(inner)],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    proxy = subprocess.Popen([str(nginx), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
    context = ssl.create_default_context(cafile=KEPT / "localhost.pem")
    try:
        wait(f"http://127.0.0.1:{inner}/readyz")
        wait(f"https://127.0.0.1:{secure}/readyz", context)
        with httpx.Client(base_url=f"https://localhost:{secure}", verify=context) as client:
            client.headers["x-plain-port"] = str(plain)
            yield client
    finally:
        for process in (proxy, server):
            process.terminate()
            process.wait(30)
        shutil.rmtree(tmp_path, ignore_errors=True)


def _list_paths(folder: Path) -> str:
    """Return where nginx keeps what is temporary, when it is not root."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    lines = [f"  {kind}_temp_path {folder}/{kind};" for kind in kinds]
    return "\n".join([*lines, f"  access_log {folder}/access.log;"])


def test_a_request_passes_nginx_and_metrics_do_not(front: httpx.Client) -> None:
    answer = front.post("/embed", json={"texts": ["a red heart"]})
    assert answer.status_code == 200
    assert len(answer.json()["embeddings"][0]) > 0
    assert front.get("/metrics").status_code == 404
    plain = f"http://localhost:{front.headers['x-plain-port']}/page"
    moved = httpx.get(plain)
    assert (moved.status_code, moved.headers["location"]) == (308, "https://localhost/page")


def test_a_refusal_passes_nginx_as_it_is(front: httpx.Client) -> None:
    answer = front.post("/embed", content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert json.loads(answer.text)["error"]["message"]


def test_nginx_takes_bodies_as_large_as_the_server_does() -> None:
    from twinlens.serving.settings import Limits

    (megabytes,) = re.findall(r"client_max_body_size (\d+)m", (COMPOSE / "nginx.conf").read_text())
    assert int(megabytes) << 20 == Limits().body_bytes


def test_servers_of_the_compose_file_are_not_root_and_write_nowhere_else() -> None:
    service = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]["twinlens"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "USER twinlens" in (ROOT / "Dockerfile").read_text()
