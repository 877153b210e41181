"""A bundle is swapped repeatedly under load; no request may fail."""

from __future__ import annotations

import time

import orjson
from report import Report

from drills.stage import Answer, Connection, Crowd, Server, count_memory, make_photo

KEY = "drill-admin-key"


def drill(report: Report, bundle: str, *, quick: bool) -> None:
    """Swap while four clients send requests."""
    photo = make_photo()
    bearer = f"Bearer {KEY}"

    def ask(connection: Connection) -> Answer:
        return connection.ask(
            "POST", "/embed", photo, Content_Type="image/jpeg", Authorization=bearer
        )

    environment = {"TWINLENS_KEYS": f"admin:{KEY}"}
    with Server(f"model={bundle}", environment=environment) as server:
        swaps, seconds = 3 if quick else 20, []
        with Crowd(4, ask, server.port) as tally:
            for _ in range(3):  # what a first swap beside traffic leaves behind is no leak
                _swap(server, bearer)
                time.sleep(1)
            memory = count_memory(server.pid)
            for _ in range(swaps):
                seconds.append(_swap(server, bearer))
                time.sleep(1)  # the watchdog returns memory at its next check
            grown = count_memory(server.pid) / memory - 1
    failed = len(tally.answers) - tally.count(200)
    report.row(drill="swap", what="swaps", value=swaps)
    report.row(drill="swap", what="slowest swap, s", value=max(seconds))
    report.row(drill="swap", what="answers meanwhile", value=tally.count(200))
    report.bar("swap_failed_requests", failed, 0, failed == 0)
    report.bar("swap_memory_growth", grown, 0.05, grown <= 0.05)


def _swap(server: Server, bearer: str) -> float:
    """Load the same bundle again under its name; return how long that took."""
    answer = server.ask("PUT", "/v1/models/model", orjson.dumps({}), Authorization=bearer)
    if answer.status != 200:
        raise SystemExit(f"the swap answered {answer.status}: {answer.body[:200]!r}")
    return answer.seconds
