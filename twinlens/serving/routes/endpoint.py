"""Hot paths: plain functions of a request, called without the framework's layers.

FastAPI's routing costs several times what these handlers cost for a cached text, and they use none
of it: they read their bodies themselves and are described in `operations`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from twinlens.errors import TwinlensError
from twinlens.serving.failures import MethodError
from twinlens.serving.requests.error_responses import answer_error

Endpoint = Callable[[Request], Awaitable[Response]]


class Dispatch:
    """Answers POST on hot paths itself and passes everything else to the application."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope.get("method") == "HEAD":
            await self._answer_head(scope, receive, send)
            return
        endpoint = self._endpoints.get(scope.get("path", ""))
        if endpoint is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if scope["method"] != "POST":
                raise MethodError(f"{scope['path']} answers POST only")
            response = await endpoint(Request(scope, receive, send))
        except TwinlensError as error:
            response = answer_error(error, path=scope["path"])
        await response(scope, receive, send)

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as GET would, without the body; the socket server leaves that out."""
        inner = {**scope, "method": "GET"}
        await self(inner, receive, send)
        if "route" in inner:  # what requests are counted under
            scope["route"] = inner["route"]
