"""Bad images among good ones, for a while, beside live traffic."""

from __future__ import annotations

import time

import numpy as np
from report import Report

from drills.stage import Answer, Connection, Crowd, Server, make_photo

PNG_BOMB = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    + b"\0\0\x75\x30\0\0\x75\x30\x08\x02\0\0\0"
    + b"\0\0\0\0"
    + b"x" * 50
)


def drill(report: Report, bundle: str, *, quick: bool) -> None:
    """Send bad images from two clients and good ones from two, which must not be affected."""
    photo = make_photo()
    rng = np.random.default_rng(0)
    with Server(bundle) as server:
        clean = server.ask("POST", "/embed", photo, Content_Type="image/jpeg").body
        differing = 0

        def poison(connection: Connection) -> Answer:
            cut = int(rng.integers(0, len(photo) * 9 // 10))
            bad = [photo[:cut], b"", PNG_BOMB, rng.bytes(300)][int(rng.integers(4))]
            return connection.ask("POST", "/embed", bad, Content_Type="image/jpeg")

        def good(connection: Connection) -> Answer:
            nonlocal differing
            answer = connection.ask("POST", "/embed", photo, Content_Type="image/jpeg")
            same = (
                np.allclose(_row(answer.body), _row(clean), atol=1e-5)
                if answer.status == 200
                else False
            )
            differing += not same
            return answer

        with Crowd(2, poison, server.port) as bad_tally, Crowd(2, good, server.port) as good_tally:
            time.sleep(3 if quick else 30)
        ready = server.ask("GET", "/readyz").status
    report.row(drill="poison", what="bad images refused", value=bad_tally.count(400, 413))
    report.row(drill="poison", what="good images answered", value=good_tally.count(200))
    others = len(bad_tally.answers) - bad_tally.count(400, 413)
    report.bar("poison_answered_otherwise", others, 0, others == 0)
    report.bar("poison_good_answers_harmed", differing, 0, differing == 0)
    report.bar("poison_ready_after", ready, 200, ready == 200)


def _row(body: bytes) -> list[float]:
    import orjson

    row: list[float] = orjson.loads(body)["embeddings"][0]
    return row
