"""The fetcher: hostile URLs make no connection; others are limited in bytes and time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from twinlens.serving.call import Call
from twinlens.serving.clock import Clock
from twinlens.serving.requests.fetch import Fetcher
from twinlens.serving.settings import Fetching

PUBLIC = "93.184.216.34"
HOSTILE = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.0.1:80/",
    "http://0.0.0.0/",
    "http://0/",
    "http://localhost/",
    "http://localhost./",
    "http://LOCALHOST/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://127.0.0.1.nip.test/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://192.0.0.1/",
    "http://192.0.2.1/",
    "http://192.0.0.192/",
    "http://168.63.129.16/",
    "http://192.88.99.1/",
    "http://[fec0::1]/",
    "http://[3fff::1]/",
    "http://[fd00:ec2::254]/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:8.8.8.8]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::808:808]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fc00::1]/",
    "http://[ff02::1]/",
    "http://user@127.0.0.1/",
    "http://example.test@127.0.0.1/",
    "http://127.0.0.1@example.test/",
    "http://example.test:pass@example.test/",
    "http://example.test\\@127.0.0.1/",
    "http://127.0.0.1\\@example.test/",
    "http://127。0。0。1/",
    "http://①②⑦.⓪.⓪.①/",
    "http://lo\u00adcalhost/",
    "http://example.test:22/",
    "http://example.test:6379/",
    "http://example.test:0/",
    "http://example.test:99999/",
    "http://example.test:80:80/",
    "http:///etc/passwd",
    "http://",
    "http://example.test /",
    "http://example.test\r\nHost: x/",
    "http://exa\tmple.test/",
    "https://127.0.0.1/",
    "file:///etc/passwd",
    "ftp://example.test/",
    "gopher://example.test/",
    "unix:///var/run/docker.sock",
    "http://internal.test/",
    "http://half.test/",
    "http://nothing.test/",
    "http://.example.test/",
    "http://-x/",
    "http://_/",
]
NAMES = {
    "localhost": ["127.0.0.1"],
    "localhost.": ["127.0.0.1"],
    "127.0.0.1.nip.test": ["127.0.0.1"],
    "internal.test": ["10.1.2.3"],
    "half.test": [PUBLIC, "127.0.0.1"],  # one address of two is enough to refuse
    "nothing.test": [],
    "example.test": [PUBLIC],
    "other.test": ["93.184.216.35"],
}


class Web(httpx.AsyncBaseTransport):
    """A fake network that answers by path and records requests: each stands for a connection."""

    def __init__(self, location: str = "") -> None:
        self.asked: list[httpx.Request] = []
        self.location = location

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path = request.url.path
        if path == "/to" and self.location:
            return httpx.Response(302, headers={"location": self.location})
        if path == "/nowhere":
            return httpx.Response(302)
        if path == "/large":
            return httpx.Response(200, stream=_Chunks(b"x" * 500, 10))
        if path == "/missing":
            return httpx.Response(404)
        if path == "/slow":
            await asyncio.sleep(30)
        if path == "/broken":
            raise httpx.ReadError("10.0.0.7 reset the connection")
        return httpx.Response(200, stream=_Chunks(b"image", 1))


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, chunk: bytes, count: int) -> None:
        self._chunk = chunk
        self._count = count

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self._count):
            yield self._chunk


async def resolve(host: str, port: int) -> Sequence[str]:
    if host not in NAMES:
        raise OSError("unknown name")
    return NAMES[host]


def fetch(url: str, web: Web, **options: Any) -> bytes | Exception:
    async def run() -> bytes | Exception:
        settings = Fetching(enabled=True, **options)
        fetcher = Fetcher(settings, 1000, resolve=resolve, transport=web)
        clock = Clock()
        try:
            return await fetcher.fetch(url, Call(clock, clock.now() + 5, 0))
        finally:
            await fetcher.close()

    return asyncio.run(run())


def test_there_are_enough_hostile_urls() -> None:
    assert len(set(HOSTILE)) >= 40


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_url_makes_no_connection(url: str) -> None:
    web = Web()
    assert isinstance(fetch(url, web), Exception)
    assert web.asked == []


# Hostile URLs that are valid in a Location header and not paths on the same host.
REDIRECTS = [
    u
    for u in HOSTILE
    if re.fullmatch(r"[!-~]+", u) and u.partition("://")[2].strip("/")[:3] not in ("", "etc")
]


@pytest.mark.parametrize("url", REDIRECTS)
def test_a_redirect_to_a_hostile_url_is_not_followed(url: str) -> None:
    web = Web(url)
    assert isinstance(fetch("http://example.test/to", web), Exception)
    assert len(web.asked) == 1


def test_the_connection_goes_to_the_checked_address_with_the_original_host_name() -> None:
    web = Web()
    assert fetch("https://example.test/x?y=1", web) == b"image"
    (request,) = web.asked
    assert request.url.host == PUBLIC
    assert request.headers["host"] == "example.test"
    assert request.extensions["sni_hostname"] == "example.test"


def test_dns_rebinding_does_not_change_the_checked_address() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    web = Web()

    async def rebind(host: str, port: int) -> Sequence[str]:
        return next(answers)

    async def run() -> list[bytes | Exception]:
        fetcher = Fetcher(Fetching(enabled=True), 1000, resolve=rebind, transport=web)
        call = Call(Clock(), Clock().now() + 5, 0)
        return [await fetcher.fetch("http://example.test/", call) for _ in range(2)]

    first, second = asyncio.run(run())
    assert first == b"image"
    assert isinstance(second, Exception)
    assert [request.url.host for request in web.asked] == [PUBLIC]


def test_redirects_are_followed_between_public_hosts_and_counted() -> None:
    web = Web("http://other.test/x")
    assert fetch("http://example.test/to", web) == b"image"
    assert [request.url.host for request in web.asked] == [PUBLIC, "93.184.216.35"]
    web = Web("/to")
    assert isinstance(fetch("http://example.test/to", web, redirects=1), Exception)
    assert len(web.asked) == 2


@pytest.mark.parametrize("path", ["large", "missing", "broken"])
def test_too_large_missing_or_broken_images_are_errors_without_details(path: str) -> None:
    error = fetch(f"http://example.test/{path}", Web())
    assert isinstance(error, Exception)
    assert "10.0.0.7" not in str(error)
    assert "404" not in str(error)


def test_a_redirect_to_nowhere_is_fetched_once() -> None:
    web = Web()
    assert isinstance(fetch("http://example.test/nowhere", web), Exception)
    assert len(web.asked) == 1


@pytest.mark.parametrize("client", ["10.0.0.1", "10.0.0.2"])
def test_slow_urls_do_not_delay_others(client: str) -> None:
    async def run() -> float:
        fetcher = Fetcher(Fetching(enabled=True), 1000, resolve=resolve, transport=Web())
        clock = Clock()
        slow = Call(clock, clock.now() + 20, 0, client="10.0.0.1")
        slow_ones = [
            asyncio.create_task(fetcher.fetch("http://example.test/slow", slow)) for _ in range(80)
        ]
        await asyncio.sleep(0.05)
        began = clock.now()
        good = Call(clock, clock.now() + 20, 0, client=client)
        found = await asyncio.gather(
            *(fetcher.fetch("http://other.test/", good) for _ in range(20))
        )
        seconds = clock.now() - began
        assert found == [b"image"] * 20
        for task in slow_ones:
            task.cancel()
        await asyncio.gather(*slow_ones, return_exceptions=True)
        await fetcher.close()
        return seconds

    assert asyncio.run(run()) < 1


def test_names_that_are_slow_to_look_up_do_not_delay_other_clients() -> None:
    async def look_up(host: str, port: int) -> Sequence[str]:
        if host.startswith("slow"):
            await asyncio.sleep(20)
        return [PUBLIC]

    async def run() -> bytes | Exception:
        fetcher = Fetcher(Fetching(enabled=True), 1000, resolve=look_up, transport=Web())
        clock = Clock()
        slow = Call(clock, clock.now() + 20, 0, client="10.0.0.1")
        slow_ones = [
            asyncio.create_task(fetcher.fetch(f"http://slow{i}.test/", slow)) for i in range(80)
        ]
        await asyncio.sleep(0.05)
        good = Call(clock, clock.now() + 1, 0, client="10.0.0.2")
        found = await fetcher.fetch("http://example.test/", good)
        for task in slow_ones:
            task.cancel()
        await asyncio.gather(*slow_ones, return_exceptions=True)
        return found

    assert asyncio.run(run()) == b"image"


def test_a_slow_host_times_out() -> None:
    assert "in time" in str(fetch("http://example.test/slow", Web(), seconds=0.05))


def test_only_listed_hosts_are_fetched_where_there_is_a_list() -> None:
    web = Web()
    assert fetch("http://example.test/", web, hosts=("example.test",)) == b"image"
    assert isinstance(fetch("http://other.test/", web, hosts=("example.test",)), Exception)
    assert len(web.asked) == 1


@pytest.mark.parametrize("path", ["/embed", "/zeroshot", "/v1/embeddings"])
def test_urls_are_off_by_default_on_every_path(
    client: TestClient, uri: Callable[..., str], path: str
) -> None:
    url = "http://example.test/x.png"
    bodies = {
        "/embed": {"images": [url]},
        "/zeroshot": {"images": [url], "classes": ["a"]},
        "/v1/embeddings": {"input": [url], "modality": "image"},
    }
    answer = client.post(path, json=bodies[path])
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "url_not_allowed"
