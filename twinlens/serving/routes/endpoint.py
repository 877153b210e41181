"""What a hot path is: a plain function of a request, called without a framework's dependencies.

FastAPI's own way to a handler costs three times as much as Starlette's, and the hot paths use
nothing of it: they read their bodies themselves and are described in `operations`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

Endpoint = Callable[[Request], Awaitable[Response]]
