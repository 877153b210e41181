"""Passes all requests but those of hot paths to the head process, so that there is one writer.

What must stay true: a client cannot tell which process answered, and the head sees every header of
the client but those that belong to one connection.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import httpx
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinlens.errors import TwinlensError
from twinlens.serving.admission.controller import FREE_METHODS
from twinlens.serving.call import name_client
from twinlens.serving.failures import UnavailableError
from twinlens.serving.requests.error_responses import answer_error
from twinlens.serving.service import Service

log = logging.getLogger("twinlens.serving")

# Of one connection (RFC 9110, 7.6.1), or written anew here for every answer.
_HOP = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade")
)
_OURS = frozenset(
    (
        b"date",
        b"server",
        b"x-request-id",
        b"x-content-type-options",
        b"x-frame-options",
        b"referrer-policy",
        b"cross-origin-resource-policy",
    )
)
CLIENT = b"twinlens-client"  # the client's address, for the head alone
LOCAL = ("/healthz", "/readyz", "/health", "/ping")

_MOST_CONNECTIONS = 256

Headers = Iterable[tuple[bytes, bytes]]


class HeadProxy:
    """Answers the paths of `LOCAL` here, and passes all others to the head."""

    def __init__(self, app: ASGIApp, service: Service, address: str) -> None:
        self._app = app
        self._service = service
        limits = httpx.Limits(max_connections=_MOST_CONNECTIONS)
        self._transport = httpx.AsyncHTTPTransport(uds=address, limits=limits)
        seconds = 2 * service.settings.limits.request_seconds
        self._timeout = dict.fromkeys(("connect", "read", "write", "pool"), seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or (scope["method"] == "GET" and scope["path"] in LOCAL):
            await self._app(scope, receive, send)
            return
        if scope["method"] in FREE_METHODS:
            await self._pass(scope, b"", send)
            return
        request = Request(scope, receive, send)
        try:
            self._service.keys.recognise(request.headers)
            call = self._service.make_call(request)
            async with self._service.receive(request, call) as body:
                await self._pass(scope, body, send)
        except TwinlensError as error:
            await answer_error(error)(scope, receive, send)

    async def _pass(self, scope: Scope, body: bytes, send: Send) -> None:
        """Pass a request with its body to the head, and the answer to the client."""
        request = httpx.Request(
            scope["method"],
            f"http://head{_target(scope)}",
            headers=[*_pass_headers(scope["headers"]), *_describe_client(scope)],
            content=body or None,
            extensions={"timeout": self._timeout},
        )
        try:
            answer = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            log.warning("the head did not answer: %r", error)
            raise UnavailableError("the process that writes was restarted; try again") from None
        scope["state"]["is_passed"] = True
        try:
            await send(_start(answer))
            async for part in answer.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()

    async def close(self) -> None:
        """End the connections."""
        await self._transport.aclose()


def _target(scope: Scope) -> str:
    query = scope["query_string"]
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return (path + b"?" + query if query else path).decode("latin-1")


def _pass_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    dropped = (*_HOP, CLIENT, b"x-request-id", b"expect")
    return [(name, value) for name, value in headers if name not in dropped]


def _describe_client(scope: Scope) -> list[tuple[bytes, bytes]]:
    address = (scope.get("client") or ("",))[0]
    return [(CLIENT, address.encode()), (b"x-request-id", scope["state"]["request_id"].encode())]


def _start(answer: httpx.Response) -> Message:
    headers = [
        (name.lower(), value)
        for name, value in answer.headers.raw
        if name.lower() not in _HOP and name.lower() not in _OURS
    ]
    return {"type": "http.response.start", "status": answer.status_code, "headers": headers}


class FromProxies:
    """In the head: sets the client's address, which the proxy sends as a header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            found = dict(scope["headers"]).get(CLIENT, b"").decode("latin-1")
            scope["client"] = (found, 0) if found else None
            if (reservation := scope["state"].get("reservation")) is not None:
                reservation.address = name_client(found)
            scope["headers"] = [h for h in scope["headers"] if h[0] != CLIENT]
        await self._app(scope, receive, send)
