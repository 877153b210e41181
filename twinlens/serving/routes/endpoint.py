"""Hot paths: routes whose functions are called without the framework's layers.

FastAPI's routing costs several times what these functions cost for a cached text, and they use none
of it: they read their bodies themselves. They are declared as every other route is, and the
framework still answers other methods of their paths.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib import import_module
from pkgutil import walk_packages

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from twinlens.errors import TwinlensError
from twinlens.serving.openapi.declaration import MESSAGE_FIELD
from twinlens.serving.requests.error_responses import answer_error

Endpoint = Callable[[Request], Awaitable[Response]]


class HotRoute(APIRoute):
    """A route whose POST takes the request alone: `APIRouter(route_class=HotRoute)`."""

    @property
    def message_field(self) -> str:
        """Where clients of this path read an error's message, beside OpenAI's `error`."""
        return str((self.openapi_extra or {}).get(MESSAGE_FIELD, ""))


def find_routers(builder: str, *parts: object) -> list[APIRouter]:
    """Return the router of each file in this folder, and below, that has such a builder."""
    modules = [import_module(name) for name in list_modules()]
    return [getattr(module, builder)(*parts) for module in modules if hasattr(module, builder)]


def list_modules() -> list[str]:
    """Return the names of the files in this folder, and below."""
    folder = import_module(__name__.rpartition(".")[0])
    found = walk_packages(folder.__path__, f"{folder.__name__}.")
    return sorted(one.name for one in found)


def list_hot(routers: Iterable[APIRouter]) -> dict[str, HotRoute]:
    """Return the hot routes of routers by path."""
    found = [route for router in routers for route in router.routes]
    return {r.path: r for r in found if isinstance(r, HotRoute) and r.methods == {"POST"}}


class Dispatch:
    """Answers POST on hot paths itself and passes everything else to the application."""

    def __init__(self, app: ASGIApp, routes: Mapping[str, HotRoute]) -> None:
        self._app = app
        self._endpoints: dict[str, Endpoint] = {p: r.endpoint for p, r in routes.items()}
        self._message_fields = {path: route.message_field for path, route in routes.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method = scope.get("method")
        endpoint = self._endpoints.get(scope["path"]) if method == "POST" else None
        if endpoint is None:
            await self._pass_on(scope, receive, send)
            return
        try:
            response = await endpoint(Request(scope, receive, send))
        except TwinlensError as error:
            response = answer_error(error, also=self._message_fields[scope["path"]])
        await response(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer; HEAD as GET, whose body the socket server leaves out."""
        if scope.get("method") != "HEAD":
            await self._app(scope, receive, send)
            return
        inner = {**scope, "method": "GET"}
        await self._app(inner, receive, send)
        if "route" in inner:  # what requests are counted under
            scope["route"] = inner["route"]
