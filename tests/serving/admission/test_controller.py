"""Admission: places reserved while bodies arrive, so that a burst is refused early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx

from twinlens.serving.admission.controller import Arrivals, Reservation, Reservations
from twinlens.serving.call import name_client
from twinlens.serving.clock import Clock
from twinlens.serving.settings import Limits, ServerSettings

Listen = Callable[[ServerSettings], Any]


class SetClock(Clock):
    """A clock that the test sets."""

    time = 0.0

    def now(self) -> float:
        return self.time


def test_a_reservation_counts_until_it_is_settled() -> None:
    reservations = Reservations(SetClock())
    places = Arrivals(9, SetClock())
    first, second = Reservation(reservations, places), Reservation(reservations, places)
    reservations.make(first)
    reservations.make(second)
    assert reservations.count() == 2
    first.settle()
    first.settle()  # settling twice is harmless
    assert reservations.count() == 1


def test_a_reservation_expires_when_its_body_takes_long() -> None:
    clock = SetClock()
    reservations = Reservations(clock)
    places = Arrivals(9, clock)
    slow, quick = Reservation(reservations, places), Reservation(reservations, places)
    reservations.make(slow)
    clock.time = 0.2
    reservations.make(quick)
    clock.time = 0.3
    assert reservations.count() == 1
    slow.settle()  # already expired
    assert reservations.count() == 1
    quick.settle()
    assert reservations.count() == 0


def announce(server: Any, length: int) -> Any:
    """Return a connection with the headers of an image sent, but not its body."""
    sock = server.connect()
    lines = ["POST /embed HTTP/1.1", "Host: x", "Content-Type: image/png"]
    sock.sendall("\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode())
    return sock


def status(sock: Any) -> int:
    """Return the status of the next answer, all of it read; the connection may close after it."""
    head, _, body = sock.recv(65536).partition(b"\r\n\r\n")
    left = int(head.lower().partition(b"content-length: ")[2].split()[0]) - len(body)
    while left > 0:  # a head may come alone
        left -= len(sock.recv(left))
    return int(head.split()[1])


def ask(server: Any, photo: bytes) -> int:
    headers = {"content-type": "image/png"}
    return httpx.post(f"{server.url}/embed", content=photo, headers=headers).status_code


def test_a_burst_of_requests_is_admitted_up_to_the_number_of_places(
    listen: Listen, image: Callable[..., bytes]
) -> None:
    server = listen(ServerSettings(limits=Limits(image_queue=2)))
    photo = image()
    sockets = []
    for _ in range(6):
        sockets.append(announce(server, len(photo)))
        time.sleep(0.01)  # in this order, all within the time of a reservation
    # Before any byte of an image has arrived.
    assert [status(sock) for sock in sockets[2:]] == [429] * 4
    for sock in sockets[:2]:
        sock.sendall(photo)
    assert [status(sock) for sock in sockets[:2]] == [200, 200]
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'twinlens_rejects_total{at="admission",model=""} 4.0' in metrics
    assert 'at="images"' not in metrics
    for sock in sockets:
        sock.close()


def test_a_slow_body_blocks_no_other_request(listen: Listen, image: Callable[..., bytes]) -> None:
    server = listen(ServerSettings(limits=Limits(image_queue=1)))
    photo = image()
    with announce(server, len(photo)) as slow:
        time.sleep(0.35)
        assert ask(server, photo) == 200
        slow.sendall(photo)
        assert status(slow) == 200


def test_a_client_that_disconnects_before_its_body_frees_its_place(
    listen: Listen, image: Callable[..., bytes]
) -> None:
    server = listen(ServerSettings(limits=Limits(image_queue=1, requests_in_flight=2)))
    for _ in range(5):
        announce(server, 1000).close()
    end = time.monotonic() + 5
    while ask(server, image()) != 200:
        assert time.monotonic() < end
    metrics = httpx.get(f"{server.url}/metrics").text
    assert "twinlens_requests_in_flight 0.0" in metrics


def test_a_request_without_images_ends_its_reservation_when_it_ends(
    listen: Listen, image: Callable[..., bytes]
) -> None:
    server = listen(ServerSettings(limits=Limits(image_queue=1)))
    for _ in range(3):  # refused by the queue, each at once
        answer = httpx.post(
            f"{server.url}/embed?dimensions=7",
            content=image(),
            headers={"content-type": "image/png"},
        )
        assert answer.status_code == 400


def test_no_more_requests_are_admitted_together_than_may_be_in_flight(
    listen: Listen, encoder: Any
) -> None:
    server = listen(ServerSettings(limits=Limits(requests_in_flight=3)))
    encoder.gate.clear()
    found: list[int] = []

    def post(word: str) -> None:
        answer = httpx.post(f"{server.url}/embed", json={"texts": [word]})
        found.append(answer.status_code)

    sockets = [threading.Thread(target=post, args=(f"word {i}",)) for i in range(9)]
    for thread in sockets:
        thread.start()
    end = time.monotonic() + 5
    while len(found) < 6:
        assert time.monotonic() < end
        time.sleep(0.005)
    encoder.gate.set()
    for thread in sockets:
        thread.join()
    assert sorted(found) == [200] * 3 + [429] * 6


def make_request(places: Arrivals, address: str = "a") -> Reservation:
    request = Reservation(Reservations(SetClock()), places, address)
    places.begin(request)
    return request


def test_a_place_is_promised_for_a_moment_and_then_only_given_to_what_has_arrived() -> None:
    clock = SetClock()
    places = Arrivals(2, clock)
    slow, quick = make_request(places), make_request(places)
    assert places.is_full
    assert quick.try_arrive()
    clock.time = 0.3
    assert not places.is_full  # the slow one's promise has lapsed
    third = make_request(places, "b")
    assert third.try_arrive()
    assert not slow.try_arrive()
    places.end(quick)
    assert slow.try_arrive()
    places.end(slow)
    places.end(third)
    assert not places.is_full


def test_an_address_with_many_slow_bodies_is_promised_no_more_until_they_end() -> None:
    clock = SetClock()
    places = Arrivals(6, clock)
    slow = [make_request(places, "a") for _ in range(4)]
    clock.time = 0.3
    assert not places.is_full
    more = [make_request(places, "a") for _ in range(50)]  # none of these holds a place
    assert not places.is_full
    others = [make_request(places, "b") for _ in range(6)]
    assert places.is_full  # another address is promised them as ever
    for request in [*slow, *more, *others]:
        places.end(request)
    kept = [make_request(places, "a") for _ in range(6)]
    assert places.is_full
    assert all(request.try_arrive() for request in kept)


def test_a_client_is_an_ipv4_address_or_an_ipv6_network() -> None:
    assert name_client("10.0.0.1") == "10.0.0.1"
    assert name_client("::ffff:10.0.0.1") == "10.0.0.1"
    assert name_client("2001:db8::1") == name_client("2001:db8::2:3")
    assert name_client("2001:db8::1") != name_client("2001:db8:0:1::1")
    assert name_client("fe80::1%eth0") == "fe80::/64"
    assert name_client("testclient") == "testclient"


def test_hundreds_of_half_bodies_lock_nobody_out(listen: Listen) -> None:
    server = listen(ServerSettings())
    lines = ["POST /embed HTTP/1.1", "Host: x", "Content-Type: application/json"]
    half = "\r\n".join([*lines, "Content-Length: 1000", "", '{"texts": [']).encode()
    crowd = []
    for _ in range(300):
        crowd.append(server.connect())
        crowd[-1].sendall(half)
    time.sleep(0.3)
    began = time.monotonic()
    for address in ("127.0.0.1", "127.0.0.2"):  # that of the crowd, and another
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(transport=transport) as http:
            for _ in range(5):
                answer = http.post(f"{server.url}/embed", json={"texts": ["red"]})
                assert answer.status_code == 200
    assert time.monotonic() - began < 3
    for sock in crowd:
        sock.close()


def test_a_body_below_the_floor_rate_is_cut_off(listen: Listen) -> None:
    server = listen(ServerSettings())
    lines = ["POST /embed HTTP/1.1", "Host: x", "Content-Type: application/json"]
    with server.connect() as still, server.connect() as dripping, server.connect() as passing:
        still.sendall("\r\n".join([*lines, "Content-Length: 9000", "", "{"]).encode())
        dripping.sendall("\r\n".join([*lines, "Content-Length: 9000", "", "{"]).encode())
        passing.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n")
        assert status(passing) == 404  # answered, and its body still to come
        for _ in range(16):
            time.sleep(0.5)
            try:
                dripping.sendall(b"x" * 9)
                passing.sendall(b"x" * 9)
            except OSError:
                break
        assert [status(still), status(dripping)] == [408, 408]
        assert [still.recv(1), dripping.recv(1)] == [b"", b""]
        with suppress(ConnectionResetError):
            assert passing.recv(1) == b""  # cut off, with no second answer
    assert "twinlens_requests_in_flight 0.0" in httpx.get(f"{server.url}/metrics").text
