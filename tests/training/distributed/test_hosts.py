"""Two `torchrun` agents stand for two hosts: one dies, comes back, and the run ends as on one.

The rendezvous is kept by a third process, with the command that the page about scale gives.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.family import write_images
from tests.training.loop.test_resume import assert_same_bytes
from twinlens.training.runs.checkpoints import find_checkpoint

pytestmark = pytest.mark.scale
ROOT = Path(__file__).parents[3]
STEPS, SAVED = 150, 30
SETS = (f"steps={STEPS}", f"save_every={SAVED}", "encoder=vit-nano/4", "image_size=16", "batch=8")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node")


def train_command(data: Path, run: Path) -> list[str]:
    command = ["-m", "twinlens.cli.main", "train", "simclr", str(data), "--out", str(run)]
    return command + [
        part for pair in (*SETS, "device=cpu", "threads=1") for part in ("--set", pair)
    ]


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    with log.open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, env=environment)


def start_store(port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start what keeps the rendezvous, as the page about scale says."""
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    line = next(line for line in page.splitlines() if "TCPStore(" in line)
    python, option, code = shlex.split(line)
    assert (python, option, code.count("29500")) == ("python", "-c", 1)
    return start([sys.executable, "-c", code.replace("29500", str(port))], log)


def start_host(port: int, data: Path, run: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start one rank as a host of two."""
    meet = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-id", "two", "--max-restarts", "3"]
    meet += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1"]
    meet += ["--rdzv-conf", "is_host=false"]
    return start([*TORCHRUN, "1", *meet, *train_command(data, run)], log)


def kill_host(process: subprocess.Popen[bytes]) -> None:
    """End an agent and its ranks at once, as a power cut does."""
    for one in (process.pid, *find_children(process.pid)):
        os.kill(one, signal.SIGKILL)
    process.wait()


def find_children(parent: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            child = int(path.parent.name)
            yield from (child, *find_children(child))


def find_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_step(run: Path, step: int, hosts: list[subprocess.Popen[bytes]]) -> None:
    """Return once a checkpoint of that step or a later one is there."""
    for _ in range(6000):
        found = find_checkpoint(run / "checkpoints")
        if found is not None and int(found.name.removeprefix("step-")) >= step:
            return
        assert [host.poll() for host in hosts] == [None] * len(hosts), "the run ended too early"
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint of step {step}")


@pytest.fixture(scope="module")
def one_host(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return images, and a run of two ranks of one host over them."""
    folder = tmp_path_factory.mktemp("one")
    data, run, log = write_images(folder / "data", 30), folder / "run", folder / "log"
    host = start([*TORCHRUN, "2", "--standalone", *train_command(data, run)], log)
    assert host.wait(timeout=400) == 0, log.read_text()[-3000:]
    return data, run


@pytest.mark.parametrize("rank", [0, 1])
def test_a_host_that_dies_and_comes_back_leaves_the_bytes_of_one_host(
    tmp_path: Path, one_host: tuple[Path, Path], rank: int
) -> None:
    """The first rank dies with its process group's store, or the other does."""
    (data, expected), port, run = one_host, find_port(), tmp_path / "two"
    logs = [tmp_path / "log0", tmp_path / "log1"]
    store = start_store(port, tmp_path / "store")
    hosts = [start_host(port, data, run, log) for log in logs]  # ranks follow process ids
    try:
        wait_for_step(run, SAVED, hosts)
        kill_host(hosts[rank])
        assert not (run / "checkpoints" / f"step-{STEPS:08}").exists()
        hosts[rank] = start_host(port, data, run, logs[rank])
        codes = [host.wait(timeout=400) for host in hosts]
        assert codes == [0, 0], "\n".join(log.read_text()[-3000:] for log in logs)
    finally:
        for process in (*hosts, store):
            if process.poll() is None:
                kill_host(process)
    told = json.loads((run / "checkpoints" / f"step-{STEPS:08}" / "checkpoint.json").read_text())
    assert told["world"] == 2
    assert_same_bytes(expected, run)
