"""Errors as responses: their HTTP status and their JSON body.

The status is chosen only here; the body has OpenAI's shape. What must stay true: no message that is
sent holds a path, a traceback or another internal.
"""

from __future__ import annotations

import math
from typing import Any

import orjson
from starlette.responses import Response

from twinlens import errors
from twinlens.serving.failures import (
    ClientGoneError,
    DeadlineError,
    DiskFullError,
    EncodeError,
    ForbiddenError,
    HostError,
    MediaTypeError,
    SlowBodyError,
    UnauthorizedError,
    UnavailableError,
)

# The first class in the error's method resolution order decides.
STATUS: dict[type[Exception], int] = {
    errors.InputError: 400,
    errors.BundleError: 422,
    errors.TooLargeError: 413,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.MissingDependencyError: 501,
    errors.PullError: 502,
    errors.OverloadedError: 429,
    errors.DeviceError: 503,
    MediaTypeError: 415,
    SlowBodyError: 408,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    HostError: 421,
    ClientGoneError: 499,
    EncodeError: 500,
    UnavailableError: 503,
    DeadlineError: 504,
    DiskFullError: 507,
    errors.TwinlensError: 500,
    Exception: 500,
}

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def status_of(error: Exception) -> int:
    """Return the HTTP status for `error`."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def describe(error: Exception, *, where: str | None = None) -> dict[str, str | None]:
    """Return the error as the four keys that clients read; never with internals."""
    status = status_of(error)
    if isinstance(error, errors.TwinlensError):
        message, code, param = error.message, error.code, where or error.field
    else:
        message, code, param = "internal error", "internal_error", where
    return {"message": message, "type": kind_of(status), "param": param, "code": code}


def kind_of(status: int) -> str:
    """Return OpenAI's error type for a status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def answer_error(error: Exception, *, also: str = "") -> Response:
    """Return the response for a request that failed as a whole."""
    status = status_of(error)
    return error_response(status, describe(error), headers=_headers(error, status), also=also)


def error_response(
    status: int, body: dict[str, Any], headers: dict[str, str] | None = None, *, also: str = ""
) -> Response:
    """Return `body` in the error envelope, and its message in the field `also`, where one is given.

    A route's declaration names that field, for clients that do not read the envelope.
    """
    content: dict[str, Any] = {"error": body}
    if also:
        content[also] = body["message"]
    return Response(orjson.dumps(content), status, headers=headers, media_type="application/json")


def _headers(error: Exception, status: int) -> dict[str, str]:
    """Return the headers for the client's retry logic; SDKs retry 408, 409, 429 and >= 500."""
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.OverloadedError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
        headers["retry-after-ms"] = str(max(1, math.ceil(error.retry_after * 1000)))
    elif status == 503:
        headers["Retry-After"] = "1"
    elif status in (409, 500, 501, 504):
        headers["x-should-retry"] = "false"  # the same request would fail, or wait, again
    return headers
