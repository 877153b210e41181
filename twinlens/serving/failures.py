"""The server's own errors; `requests.error_responses` gives each its status and its shape.

What must stay true: no message holds a path, a traceback or another internal.
"""

from __future__ import annotations

from twinlens import errors


class DeadlineError(errors.TwinlensError):
    """The time that this request had is over."""

    code = "deadline_exceeded"


class UnavailableError(errors.TwinlensError):
    """The part that would answer is starting, stopping or being restarted; try again."""

    code = "unavailable"


class EncodeError(errors.TwinlensError):
    """The encoder failed on this item alone; its batch mates did not notice."""

    code = "encode_failed"


class UnauthorizedError(errors.TwinlensError):
    """No key, or one that is not known."""

    code = "invalid_api_key"


class ForbiddenError(errors.TwinlensError):
    """A known key without the scope that this takes, or a thing that is switched off."""

    code = "forbidden"


class MediaTypeError(errors.InputError):
    """A body of a type that this path does not read."""

    code = "unsupported_media_type"


class MethodError(errors.InputError):
    """A path that exists, asked by a method that it does not answer."""

    code = "method_not_allowed"


class SlowBodyError(errors.InputError):
    """The body did not arrive in time."""

    code = "body_timeout"


class ClientGoneError(errors.TwinlensError):
    """Nobody waits for the answer any more."""

    code = "client_gone"
