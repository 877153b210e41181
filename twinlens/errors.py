"""The errors that Twinlens raises on purpose.

Every message names the field, the value and the remedy, in one line that a user can act on. No
error here knows HTTP or a terminal: the server chooses the status and the CLI the exit code, each
in one place.
"""

from __future__ import annotations


class TwinlensError(Exception):
    """A failure that Twinlens understands; `message` is fit to be shown to the user.

    `field` names the input at fault (`images[3]`, `--precision`); `code` is a stable word for
    programs.
    """

    code = "internal_error"

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        if code is not None:
            self.code = code


class InputError(TwinlensError):
    """The caller gave something that cannot work; the message says what would."""

    code = "invalid_value"


class TooLargeError(InputError):
    """An input is over a limit; the message names the limit."""

    code = "too_large"


class ImageError(InputError):
    """Bytes that are not an image that Twinlens reads."""

    code = "image_decode_failed"


class NotFoundError(InputError):
    """A name that does not exist here; the message lists what does."""

    code = "not_found"


class ConflictError(InputError):
    """Two things that must agree do not: say a collection and a bundle of another revision."""

    code = "conflict"


class BundleError(InputError):
    """A bundle that must not be used: damaged, of unknown format, or not what it says it is."""

    code = "bundle_invalid"


class CollectionError(InputError):
    """A collection that must not be used: damaged, of unknown format, or not what it says it is."""

    code = "collection_invalid"


class LockedError(ConflictError):
    """A collection that another process writes to; one writer at a time."""

    code = "locked"


class MissingDependencyError(InputError):
    """An optional library is absent; the message holds the install line."""

    code = "missing_dependency"


class OverloadedError(TwinlensError):
    """No room for more work now; try again after `retry_after` seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
