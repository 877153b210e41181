"""Around every request: id, admission, security headers, the final error handler, metrics, log.

One plain ASGI layer that costs microseconds, so that an early refusal costs little more.
"""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinlens.serving.admission.controller import FREE_METHODS, AdmissionController, Reservation
from twinlens.serving.admission.origin_guard import OriginGuard
from twinlens.serving.admission.prepared_responses import (
    SECURITY_HEADERS,
    HeaderLines,
    PreparedResponses,
)
from twinlens.serving.call import name_client
from twinlens.serving.requests.error_responses import answer_error
from twinlens.serving.service import Service

log = logging.getLogger("twinlens.serving")
access = logging.getLogger("twinlens.access")

_SAFE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


# Response headers that a page of an allowed origin may read.
EXPOSED_HEADERS = (
    "Retry-After",
    "Server-Timing",
    "Twinlens-Failed-Indices",
    "Twinlens-Failed-Items",
    "Twinlens-Model",
    "Twinlens-Output",
    "Twinlens-Revision",
    "Twinlens-Scales",
    "Twinlens-Shape",
    "X-Request-Id",
)
_EXPOSE = (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode())

HeaderList = list[tuple[bytes, bytes]]

# Ids need not be secret; reading system randomness for each would release the interpreter lock in
# the middle of every request.
_ids = random.Random(os.urandom(16))
os.register_at_fork(after_in_child=lambda: _ids.seed(os.urandom(16)))


class RequestMiddleware:
    """The outermost ASGI layer."""

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        hot_paths: Mapping[str, str] | None = None,
        origins: frozenset[str] = frozenset(),
        hosts: frozenset[str] = frozenset(),
    ) -> None:
        limits = service.settings.limits
        self.most_bytes = limits.body_bytes
        self._app = app
        # Each with the field in which its clients read an error's message, beside OpenAI's.
        self._hot_paths = dict(hot_paths or {})
        self._hot_targets = {path.encode(): path for path in self._hot_paths}
        self._origins = origins
        self._guard = OriginGuard(hosts, origins)
        self.service = service
        self._admission = AdmissionController(
            service.registry, limits.requests_in_flight, service.clock
        )
        self._refusals = PreparedResponses(SECURITY_HEADERS)
        service.metrics.in_flight.set_function(lambda: self._admission.in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        exchange = _Exchange(self, scope, send)
        if scope["method"] in FREE_METHODS:
            await self._run(exchange, scope, receive)
            return
        reservation = state.get("reservation")  # the protocol has admitted it already
        if reservation is None:
            refusal = self._admission.refuse(scope["headers"])
            if refusal is not None:
                await exchange.fail(scope, receive, refusal.to_error())
                self._count_refusal(self.label(scope))
                self.trace(scope, 429, 0.0, {})
                return
            address = name_client((scope.get("client") or ("",))[0])
            reservation = self._admission.acquire(scope["headers"], address)
            state["reservation"] = reservation
        try:
            await self._run(exchange, scope, receive)
        finally:
            self._admission.release(reservation)

    @property
    def is_draining(self) -> bool:
        """Whether connections close after their next answer."""
        return self.service.is_draining

    def prepare_refusal(self, method: str, target: bytes, headers: HeaderList) -> bytes | None:
        """Return the headers and body of a refusal, or None for a request that is admitted.

        Called by the protocol before a request object exists.
        """
        refusal = None if method in FREE_METHODS else self._admission.refuse(headers)
        if refusal is None:
            return None
        path = self._hot_targets.get(target) or self._find_hot_path(target)
        self._count_refusal(path or "unmatched")
        if self.service.tracer is not None:
            self.trace({"method": method, "path": path, "headers": headers}, 429, 0.0, {})
        more = self.allow_origin(headers) if self._origins else ()
        also = self.find_message_field(path)
        return self._refusals.write(refusal, also, _request_id(headers), more)

    def _find_hot_path(self, target: bytes) -> str:
        """Return the hot path that a target with a query names, or nothing."""
        return self._hot_targets.get(target.partition(b"?")[0], "")

    def find_message_field(self, path: str) -> str:
        """Return where clients of a path read an error's message, beside OpenAI's `error`."""
        return self._hot_paths.get(path, "")

    def acquire(self, method: str, headers: HeaderList, address: str) -> Reservation | None:
        """Count an admitted request as in flight; None for methods that are not counted."""
        if method in FREE_METHODS:
            return None
        return self._admission.acquire(headers, address)

    def label(self, scope: Scope) -> str:
        """Return the route to count a request under; never a path that a client made up."""
        path: str = scope["path"]
        if path in self._hot_paths:
            return path
        return getattr(scope.get("route"), "path", "unmatched")

    def trace(self, scope: Scope, status: int, seconds: float, stages: Mapping[str, float]) -> None:
        """Record a finished request as a trace, if tracing is on."""
        if self.service.tracer is None:
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        path = self.label(scope)
        attributes: dict[str, str | int] = {"http.route": path, "http.response.status_code": status}
        name = f"{scope['method']} {path}"
        self.service.tracer.record(name, seconds, stages, attributes, headers)

    def allow_origin(self, headers: HeaderList) -> HeaderLines:
        """Return the CORS headers of a prepared refusal.

        Answers of the application have them already.
        """
        if not self._origins:
            return ()
        origin = next((value for name, value in headers if name == b"origin"), b"")
        if "*" in self._origins:
            return ((b"access-control-allow-origin", b"*"), _EXPOSE) if origin else ()
        if origin.decode("latin-1") not in self._origins:
            return ()
        return ((b"access-control-allow-origin", origin), _EXPOSE, (b"vary", b"Origin"))

    def _count_refusal(self, path: str) -> None:
        """Count a refusal, and log the recent ones in one line."""
        self.service.metrics.count_refusal(path)
        count = self._admission.count_unlogged()
        if count:
            log.warning("overloaded: %d requests refused on arrival", count)

    async def _run(self, exchange: _Exchange, scope: Scope, receive: Receive) -> None:
        try:
            fault = self._guard.find_fault(scope["method"], scope["headers"])
            if fault is not None:
                await exchange.fail(scope, receive, fault)
                return
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            log.exception("request %s failed", exchange.request_id)
            if not exchange.status:
                await exchange.fail(scope, receive, error)
            elif not exchange.is_complete:
                raise  # part of an answer was sent: the connection has to be closed
        finally:
            exchange.finish(scope)


class _Exchange:
    """One request and its answer on their way through the middleware."""

    def __init__(self, middleware: RequestMiddleware, scope: Scope, send: Send) -> None:
        self._middleware = middleware
        self._service = middleware.service
        self._send = send
        self.request_id = _request_id(scope["headers"])
        self.status = 0
        self.is_complete = False
        self._began = self._service.clock.now()
        scope["state"]["request_id"] = self.request_id.decode()

    async def send(self, message: Message) -> None:
        """Send a message on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"].extend(((b"x-request-id", self.request_id), *SECURITY_HEADERS))
            # The rest of a late body would count against the time of the next request.
            if self._service.is_draining or self.status == 408:
                message["headers"].append((b"connection", b"close"))
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.is_complete = True

    async def fail(self, scope: Scope, receive: Receive, error: Exception) -> None:
        """Answer with an error."""
        also = self._middleware.find_message_field(scope["path"])
        response = answer_error(error, also=also)
        response.raw_headers.extend(self._middleware.allow_origin(scope["headers"]))
        await response(scope, receive, self.send)

    def finish(self, scope: Scope) -> None:
        """Count and log the request, unless another process answered it and does so."""
        if scope["state"].get("is_passed"):
            return
        seconds = self._service.clock.now() - self._began
        path = self._middleware.label(scope)
        call = scope["state"].get("call")
        model = call.model if call is not None else ""
        self._service.metrics.count_request(path, self.status, seconds, model)
        if self.status == 429:
            self._service.metrics.count_reject(*(call.refused_at if call else ("", "other")))
        stages = call.seconds if call is not None else {}
        self._middleware.trace(scope, self.status, seconds, stages)
        if access.isEnabledFor(logging.INFO):
            access.info(
                "%s %s %d %.1f ms",
                scope["method"],
                path,
                self.status,
                seconds * 1000,
                extra={"exchange": (self.request_id, scope, path, self.status, seconds, call)},
            )


def _request_id(headers: HeaderList) -> bytes:
    """Return the client's request id if it is safe to log, else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and _SAFE_ID.fullmatch(value):
            return value
    return b"%016x" % _ids.getrandbits(64)
