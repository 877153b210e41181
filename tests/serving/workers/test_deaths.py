"""kill -9 of each process under load: only what that one alone held is lost."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.serving.conftest import encode_image
from tests.serving.workers.colour_family import DEADLY, SLOW
from tests.serving.workers.conftest import ColourFamily

PNG = {"content-type": "image/png"}
Start = Callable[..., ColourFamily]


class Crowd:
    """Clients that send pictures, each on a connection of its own, and what became of them."""

    def __init__(self, url: str, clients: int) -> None:
        self.statuses: Counter[int] = Counter()  # 0: the connection ended
        self.lost = 0  # clients that lost their connection
        self._url = url
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(clients)]

    def _run(self, number: int) -> None:
        image = encode_image((10 * (number % 20), 255, 0))
        has_lost = False
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._ended.is_set():
                try:
                    status = client.post("/embed", content=image, headers=PNG).status_code
                except httpx.TransportError:
                    status = 0
                    has_lost = True
                    time.sleep(0.02)
                self.statuses[status] += 1
        self.lost += has_lost

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait(self, answers: int = 40) -> None:
        """Return when so many more requests were answered."""
        wanted, end = self.statuses[200] + answers, time.monotonic() + 60
        while self.statuses[200] < wanted:
            assert time.monotonic() < end, self.statuses
            time.sleep(0.01)

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def pressing(family: ColourFamily, clients: int = 8) -> Iterator[Crowd]:
    crowd = Crowd(family.url, clients)
    crowd.start()
    try:
        yield crowd
    finally:
        crowd.stop()


def wait_replaced(family: ColourFamily, kind: str, old: int, count: int = 1) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = family.find(kind)
        if old not in found and len(found) == count:
            family.wait_ready()
            return
        time.sleep(0.02)
    raise AssertionError(f"no new {kind} process within 120 s")


def test_a_picture_that_ends_the_encoder_fails_alone(start_family: Start) -> None:
    family = start_family("limits.request_seconds=60")
    colours = [(255, 0, 0), (0, 255, 0), DEADLY, (0, 0, 255), (255, 255, 255)]
    files = [("images", encode_image(colour)) for colour in colours]
    answer = family.client.post("/embed", files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    found = answer.json()["embeddings"]
    assert [isinstance(row, list) for row in found] == [True, True, False, True, True]
    assert found[2]["error"]["code"] == "encode_failed"
    family.wait_ready()
    again = family.client.post("/embed", content=encode_image((255, 0, 0)), headers=PNG)
    assert again.json()["embeddings"][0] == pytest.approx(found[0], abs=1e-6)
    restarts = [
        line
        for line in family.client.get("/metrics").text.splitlines()
        if line.startswith('twinlens_process_restarts_total{process="encoder"}')
    ]
    assert restarts and float(restarts[0].rsplit(" ", 1)[1]) == 3  # twice together, once alone


@pytest.mark.slow
def test_an_encoder_that_is_killed_under_load_fails_no_request(start_family: Start) -> None:
    family = start_family()
    with pressing(family) as crowd:
        for _ in range(3):
            crowd.wait()
            wait_replaced(family, "encoder", family.kill("encoder"))
        crowd.wait()
    assert set(crowd.statuses) == {200}
    assert crowd.statuses[200] > 100


@pytest.mark.slow
def test_an_http_process_that_is_killed_loses_its_own_connections_only(
    start_family: Start,
) -> None:
    family = start_family()
    with pressing(family) as crowd:
        crowd.wait()
        wait_replaced(family, "http", family.kill("http"), 2)
        crowd.wait()
    assert set(crowd.statuses) <= {0, 200}
    assert 1 <= crowd.lost <= 4, "it held half of the connections"
    assert crowd.statuses[0] <= 4 * 3, "a client that comes again finds a process"


@pytest.mark.slow
def test_a_head_that_is_killed_loses_nothing_that_it_acknowledged(start_family: Start) -> None:
    family = start_family()
    made, killed = [], 0
    with pressing(family, 4) as crowd:
        for number in range(20):
            if number in (5, 12):
                killed = family.kill("head")
            try:
                answer = family.client.put(
                    f"/classifiers/c{number}", json={"classes": ["red", f"thing {number}"]}
                )
            except httpx.TransportError as error:  # it was answered by no one, or not at all
                raise AssertionError(f"{number}: {error!r}") from error
            if answer.status_code == 201:
                made.append(f"c{number}")
            else:
                assert answer.status_code == 503, answer.text
        wait_replaced(family, "head", killed)
    assert set(crowd.statuses) == {200}, "nobody else noticed"
    assert len(made) >= 16
    listed = {one["name"] for one in family.client.get("/classifiers").json()["data"]}
    assert set(made) <= listed
    for name in made:
        for _ in range(2):  # of each process
            with httpx.Client(base_url=family.url, timeout=30) as client:
                files = {"images": encode_image()}
                answer = client.post("/zeroshot", files=files, data={"classifier": name})
                assert answer.status_code == 200, answer.text


@pytest.mark.slow
def test_when_the_keeper_is_killed_all_others_end(start_family: Start) -> None:
    family = start_family()
    pids = [pid for kind in ("http", "head", "encoder") for pid in family.find(kind)]
    assert len(pids) == 4
    family.process.kill()
    family.process.wait(10)
    end = time.monotonic() + 120
    while any(_is_alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in pids if _is_alive(pid)]


@pytest.mark.slow
def test_a_process_that_hangs_is_killed_and_replaced(start_family: Start) -> None:
    family = start_family("watch.stall_seconds=2")
    old = family.find("encoder")[0]
    os.kill(old, 19)  # stopped: it neither works nor ends
    with pressing(family, 2) as crowd:
        wait_replaced(family, "encoder", old)
        crowd.wait()
    assert set(crowd.statuses) == {200}


@pytest.mark.slow
def test_what_is_running_when_the_encoder_is_killed_is_run_again(start_family: Start) -> None:
    family = start_family()
    answers: list[int] = []

    def ask() -> None:
        answer = httpx.post(f"{family.url}/embed", content=encode_image(SLOW), headers=PNG)
        answers.append(answer.status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    family.kill("encoder")
    for thread in threads:
        thread.join()
    assert answers == [200, 200, 200]


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
