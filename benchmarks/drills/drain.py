"""SIGTERM under load: readiness fails first, accepted requests are answered, it ends in time."""

from __future__ import annotations

import signal
import time

from report import Report

from drills.stage import Answer, Connection, Crowd, Server, make_photo


def drill(report: Report, bundle: str, *, quick: bool) -> None:
    """Stop a busy server as a deployment does."""
    photo = make_photo()

    def ask(connection: Connection) -> Answer:
        return connection.ask("POST", "/embed", photo, Content_Type="image/jpeg")

    with Server(bundle, "--drain-notice", "1") as server:
        with Crowd(4, ask, server.port) as tally:
            time.sleep(1 if quick else 5)
            server.process.send_signal(signal.SIGTERM)
            told = time.monotonic()
            while server.ask("GET", "/readyz").status == 200:
                time.sleep(0.005)
            unready = time.monotonic() - told
            server.process.wait(30)
            ended = time.monotonic() - told
        code = server.process.returncode
    # After readiness failed, a balancer expects refused connections, but no error status.
    failed = len(tally.answers) - tally.count(200, 0)
    lost = sum(status == 0 and when < told + 1.0 for when, status, _ in tally.answers)
    report.row(drill="drain", what="not ready after, ms", value=1000 * unready)
    report.row(drill="drain", what="ended after, s", value=ended)
    report.bar("drain_failed_requests", failed + lost, 0, failed + lost == 0)
    report.bar("drain_unready_seconds", unready, 0.25, unready <= 0.25)
    report.bar("drain_exit_code", code, 0, code == 0)
    report.bar("drain_seconds", ended, 22.0, ended <= 22.0)
