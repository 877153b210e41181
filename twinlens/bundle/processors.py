"""The number of threads for an encoder: one per physical core that this process may use.

Two threads on one core share its vector units, so hyper-threads slow a matrix product down. A
container's CPU quota limits the number further.
"""

from __future__ import annotations

import os
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def count_physical_cores() -> int:
    """Return the number of physical cores that this process may use, at least 1."""
    cores = _count_siblings(_allowed_cpus(), _TOPOLOGY)
    quota = _read_quota(_QUOTA)
    return max(1, min(cores, quota) if quota else cores)


def count_logical_cpus() -> int:
    """Return the number of logical CPUs that this process may use, at least 1."""
    quota = _read_quota(_QUOTA)
    cpus = len(_allowed_cpus())
    return max(1, min(cpus, quota) if quota else cpus)


def _allowed_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _count_siblings(cpus: set[int], topology: Path) -> int:
    """Return the number of cores of the logical `cpus`; without a known topology each is one."""
    cores = set()
    for cpu in cpus:
        path = topology / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        cores.add(path.read_text().strip() if path.is_file() else str(cpu))
    return len(cores)


def _read_quota(path: Path) -> int | None:
    """Return the container's CPU quota in whole cores, or None without a quota."""
    if not path.is_file():
        return None
    limit, _, period = path.read_text().strip().partition(" ")
    if limit == "max" or not period:
        return None
    return max(1, int(limit) // int(period))
