"""The wire against everything that can be sent: at most one answer a request, and never a 5xx."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.serving.admission.wire import Answer, exchange, split_answers, statuses
from tests.serving.admission.wire_cases import CASES, GET, Case, Stream, make_stream
from twinlens.serving.settings import Limits, ServerSettings, Watch

HASTY = ServerSettings(limits=Limits(head_seconds=1.0, body_seconds=1.0), watch=Watch(interval=0.1))
TOGETHER = 24
EXPECTED = {case.name: case.expected for case in CASES}


@pytest.fixture
def server(listen: Callable[[ServerSettings], Any]) -> Any:
    return listen(HASTY)


def test_each_case_of_the_rfcs_is_answered_as_it_says(server: Any) -> None:
    found = ask_all(lambda case: exchange(server, case.data, pause=0.01))
    assert {case.name: statuses(told) for case, told in found} == EXPECTED


def test_nothing_behind_a_fault_is_read(server: Any) -> None:
    found = ask_all(lambda case: exchange(server, case.data + GET, pause=0.01))
    for case, told in found:
        if told and told[-1].headers.get("connection") == "close":
            assert len(told) <= len(case.expected), case.name
        elif case.expected != [413]:  # whose body is still to come
            assert len(told) == len(case.expected) + 1, case.name


@pytest.mark.slow
def test_each_case_is_answered_alike_byte_by_byte(server: Any) -> None:
    def send_bytes(case: Case) -> list[Answer]:
        step = 1 if len(case.data) < 1000 else 500
        pieces = [case.data[i : i + step] for i in range(0, len(case.data), step)]
        return exchange(server, *pieces, pause=0.001)

    assert {case.name: statuses(told) for case, told in ask_all(send_bytes)} == EXPECTED


def ask_all(ask: Callable[[Case], list[Answer]]) -> list[tuple[Case, list[Answer]]]:
    """Ask each case on a connection of its own, many at once."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        return list(zip(CASES, pool.map(ask, CASES), strict=True))


def test_some_hundred_generated_requests(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    run_generated(server, caplog, wanted=500, seed=1)


@pytest.mark.slow
def test_twenty_thousand_generated_requests(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    told = run_generated(server, caplog, wanted=20_000, seed=2)
    assert {200, 400, 404, 405} <= set(told)


def run_generated(
    server: Any, caplog: pytest.LogCaptureFixture, *, wanted: int, seed: int
) -> Counter[int]:
    """Send generated connections until so many requests went out; return the statuses."""
    rng = random.Random(seed)
    told: Counter[int] = Counter()
    streams: list[Stream] = []
    while sum(stream.requests for stream in streams) < wanted:
        streams.append(make_stream(rng))

    async def send_all() -> None:
        turns = asyncio.Semaphore(TOGETHER)

        async def one(stream: Stream) -> None:
            async with turns:
                answers = split_answers(await send(server.port, stream))
            assert len(answers) <= stream.at_most, stream
            assert all(answer.status < 500 for answer in answers), (stream, answers)
            told.update(statuses(answers))

        await asyncio.gather(*(one(stream) for stream in streams))

    with caplog.at_level(logging.ERROR):
        asyncio.run(send_all())
    assert [record.getMessage() for record in caplog.records] == []
    assert statuses(exchange(server, GET)) == [200]
    metrics = exchange(server, GET.replace(b"healthz", b"metrics"))[0].body
    assert b"twinlens_requests_in_flight 0.0" in metrics
    print(f"{sum(s.requests for s in streams)} requests, {len(streams)} connections: {dict(told)}")  # noqa: T201
    return told


async def send(port: int, stream: Stream) -> bytes:
    """Send a connection's segments and return all that came back until it was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for segment in stream.segments:
            writer.write(segment)
            await writer.drain()
            await asyncio.sleep(0)
        return await asyncio.wait_for(reader.read(), 20)
    except OSError:
        return b""  # cut off while it sent
    finally:
        writer.close()
