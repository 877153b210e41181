"""Local ranks started by the command itself: `--set devices=N` instead of `torchrun`.

What must stay true: all ranks end together. If one fails, the others are stopped and its exit code
is the command's. Ctrl-C reaches all ranks, and the command waits for them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import torch

from twinlens.errors import InputError
from twinlens.training.devices import is_accelerator, pick_device

LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 30.0  # that the other ranks get to end, once one has failed


def wants_launch(devices: int) -> bool:
    """Tell whether this process must start ranks: it is not itself one of them."""
    return devices > 1 and "WORLD_SIZE" not in os.environ


def run_ranks(devices: int, device: str, arguments: Sequence[str]) -> int:
    """Run this command once per rank; return the exit code of the first failure, or 0."""
    found = torch.cuda.device_count()
    if is_accelerator(pick_device(device)) and devices > found:
        raise InputError(
            f"devices is {devices}, and torch finds {found} GPUs; --set devices={found}",
            field="devices",
        )
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    shared |= {"WORLD_SIZE": str(devices), "LOCAL_WORLD_SIZE": str(devices)}
    command = [sys.executable, "-m", "twinlens.cli.main", *arguments]
    ranks = [
        subprocess.Popen(
            command, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(devices)
    ]
    try:
        return _wait(ranks)
    except KeyboardInterrupt:  # the terminal has sent it to the ranks too
        return _wait(ranks) or 130
    finally:
        _stop(ranks)


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> int:
    """Return once all ranks ended well, or one failed."""
    while any(rank.poll() is None for rank in ranks):
        failed = [rank.returncode for rank in ranks if rank.poll()]
        if failed:
            return failed[0]
        time.sleep(LOOK_SECONDS)
    return next((rank.returncode for rank in ranks if rank.returncode), 0)


def _stop(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.terminate()
    ends = time.monotonic() + PATIENCE_SECONDS
    for rank in ranks:
        try:
            rank.wait(max(0.1, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            rank.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
