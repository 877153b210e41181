"""The application: routers, the middleware, and how errors become answers.

What must stay true: a new file in `routes` is served without a line here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp

from twinlens.errors import InputError, TwinlensError
from twinlens.serving.admission.middleware import EXPOSED_HEADERS, RequestMiddleware
from twinlens.serving.openapi.document import describe_api
from twinlens.serving.requests.error_responses import answer_error, error_response, kind_of
from twinlens.serving.routes.endpoint import Dispatch, HotRoute, find_routers, list_hot
from twinlens.serving.service import Service
from twinlens.version import __version__


def build_app(service: Service, more: Sequence[APIRouter] = ()) -> FastAPI:
    """Return the application around a service; `more` are routers that the caller adds."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watcher = asyncio.create_task(service.watch())
        service.jobs.resume()
        try:
            yield
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
            await service.jobs.close()
            await service.fetcher.close()
            service.close()

    app = FastAPI(
        title="Twinlens",
        version=__version__,
        summary="Embeddings and zero-shot inference",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own load scripts from a CDN; the page has its own
        redoc_url=None,
    )
    routers = [*find_routers("build_router", service), *more]
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(TwinlensError, _answer_ours)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_ours)
    app.state.service = service
    app.state.hot_routes = list_hot(routers)
    app.openapi = lambda: describe_api(app)  # type: ignore[method-assign]
    return app


def add_middleware(
    app: FastAPI,
    hosts: frozenset[str] = frozenset(),
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    *,
    has_cors: bool = True,
) -> RequestMiddleware:
    """Return the application behind its hot paths and the layers that every request passes.

    `hosts` are the accepted Host names; empty: any. `around` wraps the application behind the hot
    paths; `has_cors` is False if a process in front adds the CORS headers.
    """
    service: Service = app.state.service
    hot: dict[str, HotRoute] = app.state.hot_routes
    served: ASGIApp = Dispatch(around(app), hot)
    origins = service.settings.cors_origins
    if origins and has_cors:
        served = CORSMiddleware(
            served,
            allow_origins=list(origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    message_fields = {path: route.message_field for path, route in hot.items()}
    return RequestMiddleware(served, service, message_fields, frozenset(origins), hosts)


async def _answer_ours(_: Request, error: Exception) -> Response:
    return answer_error(error)


async def _answer_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return answer_error(InputError(f"{where}: {first['msg']}", field=where))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    headers = dict(error.headers or {})
    if status == 405:
        headers["Allow"] = ", ".join(list_methods(request))
    body = {
        "message": f"{error.detail}; GET /docs lists the paths",
        "type": kind_of(status),
        "param": None,
        "code": str(error.detail).lower().replace(" ", "_"),
    }
    return error_response(status, body, headers=headers)


def list_methods(request: Request) -> list[str]:
    """Return every method that a path answers; the framework names those of one route alone."""
    routes = request.app.router.routes
    found = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(r.matches({**request.scope, "method": method})[0] is Match.FULL for r in routes)
    ]
    return [*found[:1], "HEAD", *found[1:]] if "GET" in found else found
