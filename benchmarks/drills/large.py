"""Small requests of three kinds, alone and beside four large zero-shot requests.

What it tells: how much longer a small request takes while large ones are under way, and whether the
large ones end. Alone and beside take turns, so a machine that drifts favours neither.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from functools import cache
from itertools import count, repeat

import orjson
from report import Report

from drills.stage import (
    Server,
    Tally,
    ask_until,
    make_photo,
    make_request,
    percentile,
    pin,
    split_cpus,
)

LARGE = 4  # large requests at any time
IMAGES = 64  # of each
CLASSES = 1000  # of each, new ones every time
RATE = 10.0  # small requests a second of each kind


def drill(report: Report, bundle: str, *, quick: bool) -> None:
    """Ask for small answers alone and beside the large ones, by turns."""
    rounds, seconds = (2, 5.0) if quick else (6, 15.0)
    numbers = count()
    cpus, rest = split_cpus()
    with Server(bundle, cpus=cpus) as server, pin(rest):
        small = make_small()
        asyncio.run(_run(server.port, small, 2.0, 0, numbers))  # warm
        make_images()
        lone = asyncio.run(_run(server.port, {}, 0.1, 1, numbers))[1]
        alone: dict[str, list[float]] = {kind: [] for kind in small}
        beside: dict[str, list[float]] = {kind: [] for kind in small}
        large = Tally()
        others = 0
        for _ in range(rounds):
            for found, clients in ((alone, 0), (beside, LARGE)):
                tallies, of_large = asyncio.run(_run(server.port, small, seconds, clients, numbers))
                large.answers += of_large.answers
                for kind, tally in tallies.items():
                    found[kind] += tally.seconds(200)
                    others += len(tally.answers) - tally.count(200)
    _report(report, alone, beside)
    took = large.seconds(200)
    report.row(drill="large", what="one large request alone, s", value=lone.seconds(200)[0])
    report.row(
        drill="large", what=f"{LARGE} large beside small, p50, s", value=percentile(took, 0.5)
    )
    report.row(drill="large", what=f"{LARGE} large beside small, slowest, s", value=took[-1])
    failed = len(large.answers) - len(took)
    report.bar("large_requests_unanswered", failed, 0, failed == 0 and bool(took))
    report.bar("large_small_ones_refused", others, 0, others == 0)


def _report(report: Report, alone: dict[str, list[float]], beside: dict[str, list[float]]) -> None:
    for kind in alone:
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            pair = [1000 * percentile(sorted(found[kind]), share) for found in (alone, beside)]
            report.row(drill="large", what=f"{kind} alone, {name}, ms", value=pair[0])
            report.row(drill="large", what=f"{kind} beside, {name}, ms", value=pair[1])
        ratio = pair[1] / pair[0]
        report.bar(f"large_slows_p99_of_{kind.replace(' ', '_')}", ratio, 2.0, ratio <= 2.0)


def make_small() -> dict[str, Iterator[bytes]]:
    """Return endless requests of each kind: an image, a text not seen before, known classes."""
    photo = make_photo()
    image = "data:image/jpeg;base64," + base64.b64encode(photo).decode()
    known = {"images": [image], "classes": ["red heart", "sun", "cloud"]}
    return {
        "image": repeat(make_request("/embed", photo, "image/jpeg")),
        "new text": (_json("/embed", {"texts": [f"red {i} hearts"]}) for i in count()),
        "zero-shot": repeat(_json("/zeroshot", known)),
    }


@cache
def make_images() -> tuple[str, ...]:
    """Return the images of a large request; made once, since that takes a client's time."""
    photos = [make_photo(seed=i) for i in range(IMAGES)]
    return tuple("data:image/jpeg;base64," + base64.b64encode(one).decode() for one in photos)


def make_large(numbers: Iterator[int]) -> Iterator[bytes]:
    """Return endless large requests, each with classes that nobody has asked for."""
    images = make_images()
    for number in numbers:
        classes = [f"thing {i} of kind {number}" for i in range(CLASSES)]
        asked = {"images": images, "classes": classes, "templates": ["a photo of a {}"], "top_k": 5}
        yield _json("/zeroshot", asked)


async def _run(
    port: int,
    small: dict[str, Iterator[bytes]],
    seconds: float,
    clients: int,
    numbers: Iterator[int],
) -> tuple[dict[str, Tally], Tally]:
    """Return what small requests of each kind saw, and the large ones; all are awaited."""
    end = time.monotonic() + seconds
    tallies = {kind: Tally() for kind in small}
    large = Tally()
    asking = [
        ask_until(end, port, requests, 1 / RATE, i / len(small), tallies[kind])
        for i, (kind, requests) in enumerate(small.items())
    ]
    asking += [ask_until(end, port, make_large(numbers), 0.0, 0.0, large) for _ in range(clients)]
    await asyncio.gather(*asking)
    return tallies, large


def _json(path: str, body: object) -> bytes:
    return make_request(path, orjson.dumps(body), "application/json")
