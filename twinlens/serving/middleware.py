"""What surrounds every request: its id, the door, security headers, the last catch, metrics, log.

One plain ASGI layer that costs microseconds, so that what is refused at the door costs little more.
"""

from __future__ import annotations

import logging
import os
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinlens.serving.door import Door
from twinlens.serving.failures import answer_error
from twinlens.serving.service import Service

log = logging.getLogger("twinlens.serving")
access = logging.getLogger("twinlens.access")

_SAFE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


Headers = list[tuple[bytes, bytes]]


class Surround:
    """The outermost layer."""

    def __init__(
        self, app: ASGIApp, service: Service, hot_paths: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._hot_paths = hot_paths
        self._service = service
        self._door = Door(service.registry, service.settings.limits.requests_in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self._service, scope, send, self._hot_paths)
        if self._door.is_free(scope["method"]):
            await self._run(exchange, scope, receive)
            return
        refusal = self._door.refuse(scope["headers"])
        if refusal is not None:
            await exchange.fail(scope, receive, refusal)
            self._note_refusal(exchange, scope)
            return
        self._door.in_flight += 1
        self._service.metrics.in_flight.inc()
        try:
            await self._run(exchange, scope, receive)
        finally:
            self._door.in_flight -= 1
            self._service.metrics.in_flight.dec()

    def turn_away(
        self, method: str, target: bytes, headers: Headers
    ) -> tuple[Headers, bytes] | None:
        """Return the headers and body of a refusal, or None for a request that may come in.

        For the protocol, which asks before there is a request to speak of.
        """
        refusal = None if self._door.is_free(method) else self._door.refuse(headers)
        if refusal is None:
            return None
        path = target.partition(b"?")[0].decode("ascii", "replace")
        scope: Scope = {"method": method, "path": path, "headers": headers}
        exchange = _Exchange(self._service, scope, _send_nothing, self._hot_paths)
        response = answer_error(refusal, path=path)
        exchange.status = response.status_code
        found = response.raw_headers
        exchange.add_headers(found)
        self._note_refusal(exchange, scope)
        return found, bytes(response.body)

    def _note_refusal(self, exchange: _Exchange, scope: Scope) -> None:
        """Count a refusal, and tell of all of late in one line."""
        exchange.finish(scope, is_logged=False)
        count = self._door.count_untold(self._service.clock.now())
        if count:
            log.warning("no room: %d requests refused at the door", count)

    async def _run(self, exchange: _Exchange, scope: Scope, receive: Receive) -> None:
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            log.exception("request %s failed", exchange.request_id)
            if not exchange.status:
                await exchange.fail(scope, receive, error)
            elif not exchange.is_complete:
                raise  # half an answer is out: the connection has to be cut
        finally:
            exchange.finish(scope)


class _Exchange:
    """One request and its answer as they pass."""

    def __init__(
        self, service: Service, scope: Scope, send: Send, hot_paths: frozenset[str]
    ) -> None:
        self._hot_paths = hot_paths
        self.request_id = _request_id(scope)
        self.status = 0
        self.is_complete = False
        self._service = service
        self._send = send
        self._began = service.clock.now()
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def send(self, message: Message) -> None:
        """Pass a message on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.add_headers(message["headers"])
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.is_complete = True

    def add_headers(self, headers: Headers) -> None:
        """Add the headers that every answer has."""
        headers.append((b"x-request-id", self.request_id.encode()))
        headers.extend(_SECURITY)
        if self._service.is_draining:
            headers.append((b"connection", b"close"))

    async def fail(self, scope: Scope, receive: Receive, error: Exception) -> None:
        """Answer with an error."""
        await answer_error(error, path=scope["path"])(scope, receive, self.send)

    def finish(self, scope: Scope, *, is_logged: bool = True) -> None:
        """Count the request, and log it unless it is told of in another way."""
        seconds = self._service.clock.now() - self._began
        path = scope["path"]
        if path not in self._hot_paths:  # a label is a route, never what a client made up
            path = getattr(scope.get("route"), "path", "unmatched")
        self._service.metrics.count_request(path, self.status, seconds)
        call = scope["state"].get("call")
        if self.status == 429:
            refused_at = call.refused_at if call is not None else ("", "door")
            self._service.metrics.count_reject(*refused_at)
        stages = call.seconds if call is not None else {}
        if self._service.tracer is not None:
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            attributes = {"http.route": path, "http.response.status_code": self.status}
            name = f"{scope['method']} {path}"
            self._service.tracer.record(name, seconds, stages, attributes, headers)
        if is_logged and access.isEnabledFor(logging.INFO):
            access.info(
                "%s %s %d %.1f ms",
                scope["method"],
                path,
                self.status,
                seconds * 1000,
                extra={
                    "request_id": self.request_id,
                    "method": scope["method"],
                    "path": path,
                    "status": self.status,
                    "milliseconds": round(seconds * 1000, 2),
                    "stages": {name: round(s * 1000, 2) for name, s in stages.items()},
                },
            )


async def _send_nothing(_: Message) -> None:
    """Stand where nothing is sent by the application."""


def _request_id(scope: Scope) -> str:
    """Return the client's request id where it is harmless, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SAFE_ID.fullmatch(value):
            return str(value.decode())
    return os.urandom(8).hex()
