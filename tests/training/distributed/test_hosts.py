"""Two hosts, each a `torchrun`: one dies, comes back, and the run ends as on one host."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.family import write_images
from tests.training.loop.test_resume import assert_same_bytes

ROOT = Path(__file__).parents[3]
STEPS = 40
SETTINGS = {
    "steps": STEPS,
    "batch": 8,
    "encoder": "vit-nano/8",
    "image_size": 32,
    "save_every": 10,
    "log_every": 10,
    "doctor": "false",
    "device": "cpu",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def start_host(
    data: Path, out: Path, port: int, hosts: int, ranks: int, *, meets: bool
) -> subprocess.Popen[bytes]:
    """Start the processes of one host, in a process group of their own; one host `meets` all."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(hosts)]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "run"]
    meeting += ["--rdzv-conf", f"is_host={str(meets).lower()}"]
    ranked = ["--nproc-per-node", str(ranks), "--max-restarts", "3"]
    train = ["-m", "twinlens.cli.main", "train", "simclr", str(data), "--out", str(out)]
    chosen = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    return subprocess.Popen(
        [*torchrun, *meeting, *ranked, *train, *chosen],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=(out.parent / "errors").open("ab"),
        start_new_session=True,
    )


def wait_for_checkpoint(out: Path, step: int, seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (out / "checkpoints" / f"step-{step:08}" / "checkpoint.json").exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint of step {step}")


@pytest.mark.slow
def test_a_host_that_was_killed_and_came_back_ends_as_one_host_does(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 24)
    one = start_host(data, tmp_path / "one", free_port(), 1, 2, meets=True)
    assert one.wait(timeout=600) == 0
    out, port = tmp_path / "two", free_port()
    hosts = [start_host(data, out, port, 2, 1, meets=n == 0) for n in range(2)]
    try:
        wait_for_checkpoint(out, 20)
        os.killpg(hosts[1].pid, signal.SIGKILL)
        hosts[1].wait()
        hosts[1] = start_host(data, out, port, 2, 1, meets=False)
        assert [host.wait(timeout=600) for host in hosts] == [0, 0]
    finally:
        for host in hosts:
            if host.poll() is None:
                os.killpg(host.pid, signal.SIGKILL)
    assert_same_bytes(tmp_path / "one", out)
