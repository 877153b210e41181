"""Files as two kinds of systems give them; `windows_session` works on the poorer kind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from twinlens import disk

SESSION = Path(__file__).with_name("windows_session.py")


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_indexing_searching_and_serving_need_nothing_that_windows_lacks(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SESSION.parent.parent)}
    command = [sys.executable, str(SESSION), str(tmp_path), str(find_port())]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.stdout.endswith("all done\n"), ran.stdout + ran.stderr


def test_a_file_is_locked_once_and_tells_its_holder(tmp_path: Path) -> None:
    first, second = (disk.open_to_write(tmp_path / "lock") for _ in range(2))
    assert disk.try_lock(first)
    disk.write_holder(first)
    assert not disk.try_lock(second)
    assert disk.read_holder(second).startswith(f"process {os.getpid()} on ")
    os.close(first)
    disk.wait_for_lock(second)
    os.close(second)


def test_bytes_at_a_place_are_the_same_without_pread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pread")
    monkeypatch.delattr(os, "pwrite")
    descriptor = disk.open_to_write(tmp_path / "record")
    disk.write_at(descriptor, b"abcdef", 0)
    disk.write_at(descriptor, b"X", 2)
    assert disk.read_at(descriptor, 3, 1) == b"bXd"
    os.close(descriptor)


def test_without_a_count_of_its_memory_a_system_is_taken_for_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from twinlens.index.ann.policy import available_memory

    monkeypatch.delattr(os, "sysconf")
    assert available_memory() == 4 << 30
