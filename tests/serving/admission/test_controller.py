"""Admission: places reserved while bodies arrive, so that a burst is refused early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from twinlens.serving.admission.reservations import Reservation, Reservations
from twinlens.serving.clock import Clock
from twinlens.serving.settings import Limits, ServerSettings

Listen = Callable[[ServerSettings], Any]


class SetClock(Clock):
    """A clock that stands still until it is told the time."""

    time = 0.0

    def now(self) -> float:
        return self.time


def test_a_promise_stands_until_it_is_settled() -> None:
    promises = Reservations(SetClock())
    first, second = Reservation(promises), Reservation(promises)
    promises.make(first)
    promises.make(second)
    assert promises.count() == 2
    first.settle()
    first.settle()  # a second time is no harm
    assert promises.count() == 1


def test_a_promise_lapses_when_its_body_takes_long() -> None:
    clock = SetClock()
    promises = Reservations(clock)
    slow, quick = Reservation(promises), Reservation(promises)
    promises.make(slow)
    clock.time = 0.2
    promises.make(quick)
    clock.time = 0.3
    assert promises.count() == 1
    slow.settle()  # too late to matter
    assert promises.count() == 1
    quick.settle()
    assert promises.count() == 0


def announce(server: Any, length: int) -> Any:
    """Return a connection on which an image was announced and not yet sent."""
    sock = server.connect()
    lines = ["POST /embed HTTP/1.1", "Host: x", "Content-Type: image/png"]
    sock.sendall("\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode())
    return sock


def status(sock: Any) -> int:
    """Return the status of the next answer, which may be cut off behind it."""
    return int(sock.recv(65536).split()[1])


def ask(server: Any, photo: bytes) -> int:
    headers = {"content-type": "image/png"}
    return httpx.post(f"{server.url}/embed", content=photo, headers=headers).status_code


def test_a_crowd_that_comes_at_once_is_let_in_by_the_number_of_places(
    listen: Listen, image: Callable[..., bytes]
) -> None:
    server = listen(ServerSettings(limits=Limits(image_queue=2)))
    photo = image()
    crowd = []
    for _ in range(6):
        crowd.append(announce(server, len(photo)))
        time.sleep(0.01)  # so that they are asked in this order, all within the time of a promise
    assert [status(sock) for sock in crowd[2:]] == [429] * 4  # while not a byte of an image is in
    for sock in crowd[:2]:
        sock.sendall(photo)
    assert [status(sock) for sock in crowd[:2]] == [200, 200]
    told = httpx.get(f"{server.url}/metrics").text
    assert 'twinlens_rejects_total{at="admission",model=""} 4.0' in told
    assert 'at="images"' not in told
    for sock in crowd:
        sock.close()


def test_a_slow_body_keeps_no_place_from_others(
    listen: Listen, image: Callable[..., bytes]
) -> None:
    server = listen(ServerSettings(limits=Limits(image_queue=1)))
    photo = image()
    with announce(server, len(photo)) as slow:
        time.sleep(0.35)
        assert ask(server, photo) == 200
        slow.sendall(photo)
        assert status(slow) == 200


def test_who_leaves_before_the_body_leaves_its_place(
    listen: Listen, image: Callable[..., bytes]
) -> None:
    server = listen(ServerSettings(limits=Limits(image_queue=1, requests_in_flight=2)))
    for _ in range(5):
        announce(server, 1000).close()
    end = time.monotonic() + 5
    while ask(server, image()) != 200:
        assert time.monotonic() < end
    told = httpx.get(f"{server.url}/metrics").text
    assert "twinlens_requests_in_flight 0.0" in told


def test_a_request_that_asks_for_no_image_settles_its_promise_by_ending(
    listen: Listen, image: Callable[..., bytes]
) -> None:
    server = listen(ServerSettings(limits=Limits(image_queue=1)))
    for _ in range(3):  # refused further in, each at once
        answer = httpx.post(
            f"{server.url}/embed?dimensions=7",
            content=image(),
            headers={"content-type": "image/png"},
        )
        assert answer.status_code == 400


def test_no_more_requests_than_may_be_in_flight_are_let_in_together(
    listen: Listen, encoder: Any
) -> None:
    server = listen(ServerSettings(limits=Limits(requests_in_flight=3)))
    encoder.gate.clear()
    found: list[int] = []

    def post(word: str) -> None:
        answer = httpx.post(f"{server.url}/embed", json={"texts": [word]})
        found.append(answer.status_code)

    crowd = [threading.Thread(target=post, args=(f"word {i}",)) for i in range(9)]
    for thread in crowd:
        thread.start()
    end = time.monotonic() + 5
    while len(found) < 6:
        assert time.monotonic() < end
        time.sleep(0.005)
    encoder.gate.set()
    for thread in crowd:
        thread.join()
    assert sorted(found) == [200] * 3 + [429] * 6
