"""Replicas on Ray Serve: their plan is checked, and what they answer is what one server answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

import twinlens
from tests.conftest import ToyModel, write_toy_bundle
from twinlens.client import Client
from twinlens.errors import InputError
from twinlens.index.ingest.ray_engine import start_ray
from twinlens.serving import ray_serve
from twinlens.serving.ray_serve import (
    ReplicaPlan,
    build_application,
    plan_replica,
    write_config,
)

ROOT = Path(__file__).parents[2]
PORT = 8137


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"least": 0}, "at least 1"),
        ({"least": 5, "most": 4}, "5 to 4"),
        ({"ongoing": 0}, "ongoing is 0"),
        ({"settings": ["data=/tmp/x"]}, "data"),
        ({"settings": ["limits.items"]}, "NAME=VALUE"),
        ({"replicas": 3}, "args of the Serve config"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_anything_starts(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_application(changes)


def test_a_replica_answers_as_a_server_does(toy_bundle: Path, squares: dict[str, bytes]) -> None:
    app = plan_replica(
        ReplicaPlan({"toy": str(toy_bundle)}, settings=("limits.text_characters=4",))
    )()
    with TestClient(app) as client:
        assert client.get("/readyz").status_code == 200
        headers = {"content-type": "image/png"}
        told = client.post("/embed", content=squares["red"], headers=headers).json()
        assert len(told["embeddings"][0]) == 16
        told = client.post("/embed", json={"inputs": [{"text": "red"}, {"text": "longer"}]}).json()
        assert "error" in told["data"][1] if "data" in told else "error" in str(told)


def test_the_config_file_names_the_plan() -> None:
    plan = ReplicaPlan(collections={"photos": "postgresql://db/x"}, least=2, most=8)
    lines = write_config(plan, "0.0.0.0", 9000).splitlines()
    told = dict(line.strip().split(": ", 1) for line in lines if line.startswith("      "))
    fields = {name: json.loads(value) for name, value in told.items()}
    assert ReplicaPlan(**{**fields, "settings": tuple(fields["settings"])}) == plan
    assert "import_path: twinlens.serving.ray_serve:build_application" in "\n".join(lines)
    assert (ROOT / "deploy" / "ray" / "serve.yaml").read_text("utf-8").splitlines()[:3] == lines[:3]


class SlowServe:
    """Stands for Serve on a busy machine: it replaces proxies that are not ready in time."""

    def __init__(self, failures: list[type[Exception]]) -> None:
        self.failures, self.started = failures, 0

    def start(self, **_: object) -> None:
        self.started += 1
        if self.failures:
            raise self.failures.pop()("not ready")


class ProxyDiedError(Exception):
    """Stands for Ray's error of an actor that was replaced."""


@pytest.mark.parametrize(
    ("failures", "tries", "message"),
    [
        ([], 1, ""),
        ([ProxyDiedError, TimeoutError], 3, ""),
        ([ProxyDiedError] * 9, ray_serve.START_TRIES, "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"),
        ([ValueError], 1, "not ready"),
    ],
)
def test_a_proxy_that_a_busy_machine_delays_is_waited_for(
    failures: list[type[Exception]], tries: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    told = SimpleNamespace(RayActorError=ProxyDiedError)
    monkeypatch.setitem(sys.modules, "ray.exceptions", told)
    serve = SlowServe(list(failures))
    if message:
        with pytest.raises((InputError, ValueError), match=message):
            ray_serve._start_serve(serve, "127.0.0.1", 8000)
    else:
        ray_serve._start_serve(serve, "127.0.0.1", 8000)
    assert serve.started == tries


class Load:
    """Clients that ask without a pause, and note what they were told."""

    def __init__(self, url: str) -> None:
        self.seconds: list[float] = []
        self.answers: list[tuple[str, list[list[float]]]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def _ask(self, url: str) -> None:
        with Client(url, retries=8) as client:
            while not self._stop.is_set():
                start = time.perf_counter()
                try:
                    client.embed_texts(["red", "green"])
                except Exception as error:
                    self.failures.append(repr(error))
                self.seconds.append(time.perf_counter() - start)
                answer = httpx.post(f"{url}/embed", json={"inputs": [{"text": "red"}] * 2})
                if answer.status_code == 200:
                    told = answer.json()
                    self.answers.append((told["revision"], told["embeddings"]))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def deploy(bundle: Path, address: str) -> None:
    """Deploy two replicas, as `twinlens deploy ray` does."""
    command = [sys.executable, "-m", "twinlens", "deploy", "ray", f"toy={bundle}"]
    options = ["--replicas", "2:2", "--cpus", "0.5", "--port", str(PORT), "--address", address]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.scale
def test_a_killed_replica_and_a_rolling_upgrade_fail_no_request(
    tmp_path: Path,
    toy_model: ToyModel,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray
    from ray import serve

    first = write_toy_bundle(tmp_path / "first", toy_model)
    turned = replace(toy_model, text_weight=-toy_model.text_weight)
    second = write_toy_bundle(tmp_path / "second", turned)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")  # two busy cores are slow
    start_ray(2, 128 << 20)
    address = ray.get_runtime_context().gcs_address  # `auto` may find another cluster's
    try:
        deploy(first, address)
        url = f"http://127.0.0.1:{PORT}"
        load = Load(url)
        time.sleep(3)
        os.kill(find_replica(), signal.SIGKILL)
        time.sleep(15)
        killed = sorted(load.seconds)
        deploy(second, address)
        time.sleep(5)
        load.stop()
        assert load.failures == []
        for path in (first, second):
            encoder = twinlens.open_bundle(path)
            answers = [rows for name, rows in load.answers if name == encoder.revision]
            assert answers, "no answer of this revision"
            expected = encoder.embed_texts(["red", "red"], input_type="query")
            for rows in answers:
                np.testing.assert_allclose(rows, expected, atol=1e-5)
        assert len({name for name, _ in load.answers}) == 2
        with capsys.disabled():
            p99 = killed[int(0.99 * len(killed))]
            print(f"\n{len(load.seconds)} requests, 0 failed; p99 with a kill {p99:.3f} s")  # noqa: T201
    finally:
        serve.shutdown()
        ray.shutdown()


def find_replica() -> int:
    """Return the process of a replica."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if b"ServeReplica:twinlens:twinlens" in text:
                return int(folder.name)
    raise AssertionError("no replica runs")
