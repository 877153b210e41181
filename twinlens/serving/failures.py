"""The server's own errors; `requests.error_responses` gives each its status and its shape.

What must stay true: no message holds a path, a traceback or another internal.
"""

from __future__ import annotations

from collections.abc import Sequence

from twinlens import errors


class DeadlineError(errors.TwinlensError):
    """The deadline of this request has passed."""

    code = "deadline_exceeded"


class UnavailableError(errors.TwinlensError):
    """The part that would answer is starting, stopping or being restarted; try again."""

    code = "unavailable"


class EncodeError(errors.TwinlensError):
    """The encoder failed on this item only; the rest of its batch succeeded."""

    code = "encode_failed"


class UnauthorizedError(errors.TwinlensError):
    """The API key is missing or unknown."""

    code = "invalid_api_key"


class ForbiddenError(errors.TwinlensError):
    """The key lacks the required scope, or the feature is disabled."""

    code = "forbidden"


class HostError(ForbiddenError):
    """A request to a name that this server does not answer to."""

    code = "host_not_allowed"


class MediaTypeError(errors.InputError):
    """A body of a media type that this path does not accept."""

    code = "unsupported_media_type"


class DiskFullError(errors.TwinlensError):
    """The server's disk is full."""

    code = "disk_full"


class SlowBodyError(errors.InputError):
    """The body did not arrive in time."""

    code = "body_timeout"


class ClientGoneError(errors.TwinlensError):
    """The client has disconnected."""

    code = "client_gone"


def locate(index: int, error: Exception, where: str) -> Exception:
    """Return `error` with the item that it belongs to as its field."""
    if isinstance(error, errors.TwinlensError):
        error.field = f"{where}[{index}]"
    return error


def first_failure(answers: Sequence[object]) -> tuple[int, Exception] | None:
    """Return the first item that failed, for dialects in which one failure fails the request."""
    return next(((i, a) for i, a in enumerate(answers) if isinstance(a, Exception)), None)
