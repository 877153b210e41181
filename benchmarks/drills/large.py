"""Small requests of three kinds, alone and beside four large zero-shot requests.

It measures how much longer a small request takes while large ones run, and whether the large ones
end. Both situations alternate, so that drift of the machine favours neither. A request's time is
measured twice: by the clock, and in CPU time that the server spends until the response, on this and
on other requests. The server has one CPU, so on a quiet machine the two agree; on a busy one only
the second is the server's own.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import cache
from itertools import count, repeat

import orjson
from report import Report

from drills.stage import (
    Server,
    make_photo,
    make_request,
    percentile,
    pin,
    read_answer,
    read_cpu_clock,
    split_cpus,
)

LARGE = 4  # large requests at any time
IMAGES = 64  # of each
CLASSES = 1000  # of each, new ones every time
RATE = 12.0  # requests per second of a client of each small kind, at random intervals


def drill(report: Report, bundle: str, *, quick: bool) -> None:
    """Send small requests alone and beside the large ones, alternately."""
    rounds, seconds = (2, 12.0) if quick else (6, 15.0)
    make_images()
    cpus, rest = split_cpus()
    patient = ("--set", "limits.request_seconds=300")  # a busy machine refuses nothing here
    with Server(bundle, *patient, cpus={min(cpus)}) as server, pin(rest):
        asking = _Asking(server)
        asking.run(2.0, 0)  # warm-up
        asking = _Asking(server)
        for _ in range(rounds):
            asking.run(seconds, 0)
            asking.run(seconds, LARGE)
    for kind in asking.small:
        _report(report, kind, asking.times[kind, 0], asking.times[kind, LARGE])
    took = sorted(seconds for _, seconds in asking.large)
    report.row(
        drill="large", what=f"{LARGE} large beside small, p50, s", value=percentile(took, 0.5)
    )
    report.row(drill="large", what=f"{LARGE} large beside small, slowest, s", value=took[-1])
    failed = [status for status, _ in asking.large if status != 200]
    report.bar("large_requests_unanswered", len(failed), 0, not failed)
    report.bar("large_small_ones_unanswered", asking.failed, 0, asking.failed == 0)


def _report(
    report: Report, kind: str, alone: list[tuple[float, float]], beside: list[tuple[float, float]]
) -> None:
    """Report a kind's times by the clock and by the server's CPU time; the second is the bar."""
    for place, clock in enumerate(("ms", "CPU ms")):
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            found = [sorted(times[place] for times in some) for some in (alone, beside)]
            pair = [1000 * percentile(times, share) for times in found]
            report.row(drill="large", what=f"{kind} alone, {name}, {clock}", value=pair[0])
            report.row(drill="large", what=f"{kind} beside, {name}, {clock}", value=pair[1])
    ratio = pair[1] / pair[0]
    report.bar(f"large_slows_p99_of_{kind.replace(' ', '_')}", ratio, 2.0, ratio <= 2.0)


class _Asking:
    """Clients of each small kind, with large ones beside them or none."""

    def __init__(self, server: Server) -> None:
        self.small = make_small()
        self.times: dict[tuple[str, int], list[tuple[float, float]]] = {
            (kind, clients): [] for kind in self.small for clients in (0, LARGE)
        }
        self.large: list[tuple[int, float]] = []  # status and seconds
        self.failed = 0
        self._server = server
        self._numbers = count()
        self._pauses = random.Random(0)

    def run(self, seconds: float, clients: int) -> None:
        """Send requests for so long, beside so many large ones; all are awaited."""
        asyncio.run(self._run(time.monotonic() + seconds, clients))

    async def _run(self, end: float, clients: int) -> None:
        asking = [self._ask_small(end, kind, clients) for kind in self.small]
        large = make_large(self._numbers)
        asking += [self._ask_large(end, large) for _ in range(clients)]
        await asyncio.gather(*asking)

    async def _ask_small(self, end: float, kind: str, clients: int) -> None:
        found = self.times[kind, clients]
        async with _connect(self._server.port) as ask:
            while time.monotonic() < end:
                began, cpu = time.perf_counter(), read_cpu_clock(self._server.pid)
                status = await ask(next(self.small[kind]))
                spent = read_cpu_clock(self._server.pid) - cpu
                seconds = time.perf_counter() - began
                if status == 200:
                    found.append((seconds, spent))
                else:
                    self.failed += 1
                await asyncio.sleep(self._pauses.expovariate(RATE))

    async def _ask_large(self, end: float, requests: Iterator[bytes]) -> None:
        async with _connect(self._server.port) as ask:
            while time.monotonic() < end:
                began = time.perf_counter()
                status = await ask(next(requests))
                self.large.append((status, time.perf_counter() - began))


@asynccontextmanager
async def _connect(port: int) -> AsyncIterator[Callable[[bytes], Awaitable[int]]]:
    """Return a function that sends a request and returns the status of its response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(request: bytes) -> int:
        writer.write(request)
        return await read_answer(reader)

    try:
        yield ask
    finally:
        writer.close()


def make_small() -> dict[str, Iterator[bytes]]:
    """Return endless requests of each kind: an image, a new text, known classes."""
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
    """Return the images of a large request; made once, since that takes the client's time."""
    photos = [make_photo(seed=i) for i in range(IMAGES)]
    return tuple("data:image/jpeg;base64," + base64.b64encode(one).decode() for one in photos)


def make_large(numbers: Iterator[int]) -> Iterator[bytes]:
    """Return endless large requests, each with new classes."""
    images = make_images()
    for number in numbers:
        classes = [f"thing {i} of kind {number}" for i in range(CLASSES)]
        asked = {"images": images, "classes": classes, "templates": ["a photo of a {}"], "top_k": 5}
        yield _json("/zeroshot", asked)


def _json(path: str, body: object) -> bytes:
    return make_request(path, orjson.dumps(body), "application/json")
