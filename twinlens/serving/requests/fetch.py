"""Fetches images by URL, if the settings allow it; nothing else in the server connects out.

A host is resolved once, every address that it resolves to must be public, and the connection goes
to a checked address. Each redirect passes the same checks. What must stay true: no byte is sent to
an address that `networks` does not call public.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from twinlens.errors import ImageError, TooLargeError, TwinlensError
from twinlens.serving.call import Call
from twinlens.serving.failures import ForbiddenError
from twinlens.serving.requests.fetch_slots import FetchSlots
from twinlens.serving.requests.networks import Address, is_public
from twinlens.serving.settings import Fetching

if TYPE_CHECKING:
    import httpx  # slow to import, and most servers fetch nothing

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?\.?")
# 0x7f.1, 017700000001, 2130706433: numbers that resolvers read as addresses, each differently.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
# Excludes what parsers may read differently: controls, spaces, backslashes, non-ASCII.
_PLAIN = re.compile(r"[!-\[\]-~]{1,4096}")
_LOOKUPS = 32  # names looked up at once; a slow one holds a thread


class Fetcher:
    """Fetches images; an error is returned, not raised, since it belongs to one item."""

    def __init__(
        self,
        settings: Fetching,
        limit_bytes: int,
        *,
        resolve: Resolve | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._limit = limit_bytes
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="resolve")
        self._resolve = resolve or self._ask_resolver
        self._lookups = FetchSlots(_LOOKUPS, per_client=16, per_host=4)
        self._fetches = FetchSlots(most=64, per_client=32, per_host=8)
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def fetch(self, url: str, call: Call) -> bytes | Exception:
        """Return the bytes at `url`, or the error of this item."""
        if not self._settings.enabled:
            return _refuse("this server fetches no URLs; send the image itself, as a data URI")
        import httpx

        try:
            async with asyncio.timeout(min(self._settings.seconds, call.remaining)):
                return await self._follow(url, call.client)
        except TwinlensError as error:
            return error
        except TimeoutError:
            return ImageError("the URL did not answer in time", code="url_timeout")
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            # The reason would reveal which internal ports are open.
            return ImageError("the URL could not be fetched", code="url_failed")

    async def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            await self._client.aclose()

    async def _follow(self, url: str, client: str) -> bytes:
        """Fetch `url`, checking each redirect like the first URL."""
        for _ in range(self._settings.redirects + 1):
            parts = self.check_url(url)
            host = str(parts.hostname)
            async with self._lookups.take(client, host):
                address = await self._find_address(host, _port(parts))
            async with self._fetches.take(client, _neighbourhood(address)):
                found = await self._get(parts, address)
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found)
        raise ImageError("the URL redirects too often", code="url_failed")

    def check_url(self, url: str) -> SplitResult:
        """Return the parts of an acceptable URL; nothing here touches the network."""
        if not _PLAIN.fullmatch(url):
            raise _refuse("the URL holds characters that are not plain ASCII")
        try:
            parts = urlsplit(url)
            port, host = _port(parts), parts.hostname or ""
        except ValueError:
            raise _refuse("the URL cannot be read") from None
        if parts.scheme not in ("http", "https"):
            raise _refuse("only http and https URLs are fetched")
        is_number = _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2])
        is_name = _HOST.fullmatch(host) and not is_number
        if "@" in parts.netloc or not (is_name or _as_address(host)):
            raise _refuse("the URL's host is not a plain name")
        if port not in self._settings.ports:
            raise _refuse("the URL's port is not allowed")
        allowed = self._settings.hosts
        if allowed and host.rstrip(".").lower() not in allowed:
            raise _refuse("the URL's host is not on this server's list")
        return parts

    async def _find_address(self, host: str, port: int) -> Address:
        """Return the address to connect to; every address of the name must be public."""
        literal = _as_address(host)
        try:
            found = [str(literal)] if literal else list(await self._resolve(host, port))
        except OSError:
            raise ImageError("the URL's host is not known", code="url_failed") from None
        addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in found]
        if not addresses or not all(is_public(address) for address in addresses):
            raise _refuse("the URL's host is not a public one")
        return addresses[0]

    async def _ask_resolver(self, host: str, port: int) -> Sequence[str]:
        """Return every address of a name, by the system's resolver, in threads of our own."""
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [str(entry[4][0]) for entry in found]

    async def _get(self, parts: SplitResult, address: Address) -> bytes | str:
        """Return the body, or the target of a redirect."""
        shown = f"[{address}]" if address.version == 6 else str(address)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = self._open().build_request(
            "GET",
            f"{parts.scheme}://{shown}:{_port(parts)}{path}",
            headers={"Host": parts.netloc, "Accept": "image/*", "User-Agent": "twinlens"},
            # TLS must verify the requested name, not the address that is connected to.
            extensions={"sni_hostname": str(parts.hostname)},
        )
        response = await self._open().send(request, stream=True)
        try:
            if response.is_redirect:
                if not response.headers.get("location"):
                    raise ImageError("the URL redirects to nowhere", code="url_failed")
                return str(response.headers["location"])
            if response.status_code != 200:
                raise ImageError("the URL did not answer with an image", code="url_failed")
            return await self._read(response)
        finally:
            await response.aclose()

    async def _read(self, response: httpx.Response) -> bytes:
        """Return the body, never decompressed; raise as soon as it exceeds the limit."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > self._limit:
                raise TooLargeError(f"the URL's image has more than {self._limit} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def _open(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=self._transport,
                follow_redirects=False,
                trust_env=False,  # a proxy from the environment would connect unchecked
                timeout=self._settings.seconds,
                # Pooled connections are keyed by address; names must be checked at each connection.
                limits=httpx.Limits(max_keepalive_connections=0, max_connections=None),
            )
        return self._client


def _as_address(host: str) -> Address | None:
    """Return the address that `host` spells in canonical form; None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _neighbourhood(address: Address) -> str:
    """Return the name that a host is counted under: its IPv4 address, or its IPv6 /64 network."""
    if address.version == 4:
        return str(address)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))


def _port(parts: SplitResult) -> int:
    return parts.port if parts.port is not None else 443 if parts.scheme == "https" else 80


def _refuse(reason: str) -> ForbiddenError:
    return ForbiddenError(reason, code="url_not_allowed")
