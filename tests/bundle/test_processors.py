"""Threads are counted by physical core and by the container's quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twinlens.bundle.processors import (
    _count_siblings,
    _read_quota,
    count_logical_cpus,
    count_physical_cores,
)


def test_two_threads_of_one_core_count_once(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert _count_siblings({0, 1, 2, 3}, tmp_path) == 2
    assert _count_siblings({1, 3}, tmp_path) == 1


def test_without_a_topology_each_cpu_counts(tmp_path: Path) -> None:
    assert _count_siblings({0, 1, 5}, tmp_path) == 3


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", None), ("150000 100000", 1), ("400000 100000", 4), ("20000 100000", 1)],
)
def test_a_container_quota_is_respected(tmp_path: Path, text: str, cores: int | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(text + "\n")
    assert _read_quota(path) == cores


def test_this_machine_has_at_least_one_core() -> None:
    assert count_physical_cores() >= 1


def test_cores_are_no_more_than_logical_cpus() -> None:
    assert 1 <= count_physical_cores() <= count_logical_cpus()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no threads")
def test_only_cpus_that_the_process_may_use_count() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert count_logical_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
