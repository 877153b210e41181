"""The requests of a key, counted by all processes together."""

from __future__ import annotations

import subprocess
import sys

import pytest

from twinlens.errors import OverloadedError
from twinlens.serving.clock import Clock
from twinlens.serving.keys import RequestRate, parse_keys
from twinlens.serving.settings import Limits, ServerSettings
from twinlens.serving.workers.shared_rates import RateTable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory files are Linux's")

_FORKED = """
import os
from tests.serving.workers.test_shared_rates import count_accepted, make_rates
rates = make_rates(per_minute=20)
children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        os._exit(count_accepted(rates[0][0], 50))
    children.append(pid)
print(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


def make_rates(per_minute: int) -> list[list[RequestRate]]:
    """Return the rates of two keys, as two processes have them."""
    keys = parse_keys("a=read:a-long-key,b=read:another-key")
    table = RateTable(ServerSettings(limits=Limits(key_requests_per_minute=per_minute), keys=keys))
    return [list(table.build_rates(Clock()).values()) for _ in range(2)]


def count_accepted(rate: RequestRate, asked: int) -> int:
    accepted = 0
    for _ in range(asked):
        try:
            rate.count()
        except OverloadedError:
            continue
        accepted += 1
    return accepted


def test_what_one_process_counts_the_other_knows_and_other_keys_are_apart() -> None:
    first, second = make_rates(per_minute=6)
    assert [count_accepted(first[0], 4), count_accepted(second[0], 4)] == [4, 2]
    assert count_accepted(second[1], 9) == 6
    with pytest.raises(OverloadedError, match="6 requests a minute") as refused:
        first[0].count()
    assert 0 < (refused.value.retry_after or 0) <= 10


def test_without_a_limit_nothing_is_counted() -> None:
    assert count_accepted(make_rates(per_minute=0)[0][0], 500) == 500


def test_processes_that_count_at_once_accept_no_more_than_one_would() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _FORKED], capture_output=True, check=True, text=True, timeout=120
    )
    assert 20 <= int(told.stdout) <= 22, "a minute's worth, and what came back meanwhile"
