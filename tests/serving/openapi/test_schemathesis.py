"""Schemathesis with every check on every operation: an admin key, and a collection that exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from docs.draw_routes import read_operations
from twinlens.bundle.manifest import AttentionSpec
from twinlens.serving.admission.protocol import build_protocol
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.keys import parse_keys
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

KEY = {"authorization": "Bearer administrator"}
# A schema of a form or of a length cannot say more; `accepted` takes the place of the check that
# is left out (its hooks say why).
CONFIG = """
[checks]
negative_data_rejection.expected-statuses = [
  "400", "401", "403", "404", "405", "409", "413", "415", "422", "429",
]
[cache]
enabled = false
"""
ROOT = Path(__file__).parents[3]


@pytest.fixture
def url(encoder: Any, tmp_path: Path) -> Iterator[str]:
    """A server with every route, as it is served: own protocol, keys, a data folder."""
    encoder.manifest = replace(encoder.manifest, attention=AttentionSpec("attention.onnx", 2, 4, 4))
    settings = ServerSettings(data=tmp_path / "data", keys=parse_keys("admin:administrator"))
    service = Service(settings, lambda source, precision: encoder)
    service.load("colours", "colours")
    store = CollectionStore(tmp_path / "data" / "collections")
    app = add_middleware(build_app(service, build_routers(service, store)))
    config = uvicorn.Config(app, http=build_protocol(app), ws="none", port=0, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    items = {"items": [{"id": "red", "text": "red"}, {"id": "blue", "text": "blue"}]}
    with httpx.Client(base_url=address, headers=KEY) as http:
        assert http.put("/collections/example").status_code == 201
        assert http.post("/collections/example/items", json=items).status_code == 200
    yield address
    server.should_exit = True
    thread.join()
    store.close()


def run_schemathesis(url: str, folder: Path, examples: int) -> str:
    """Run the command in every phase and return what it printed; it must have found nothing."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [str(Path(sys.executable).with_name("st")), "--config-file", "schemathesis.toml"]
    options = [
        *("run", f"{url}/openapi.json", "-H", f"Authorization: {KEY['authorization']}"),
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
        *("--phases", "examples,coverage,fuzzing,stateful"),
        *("-n", str(examples), "--seed", "11", "--continue-on-failure", "--no-color"),
    ]
    told = subprocess.run(
        [*command, *options],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.serving.openapi.schemathesis_hooks",
        },
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert told.returncode == 0, told.stdout[-20_000:] + told.stderr[-2000:]
    return told.stdout


@pytest.mark.slow
def test_no_operation_accepts_or_answers_what_the_document_does_not_say(
    url: str, tmp_path: Path
) -> None:
    told = run_schemathesis(url, tmp_path, examples=50)
    count = len(read_operations())
    assert f"Tested: {count}" in told
    generated = re.search(r"(\d+) generated", told)
    assert generated is not None
    assert int(generated[1]) > 2500
