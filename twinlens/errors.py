"""The errors that Twinlens raises intentionally.

Every message names the field, the value and the remedy, in one line that a user can act on. No
error here knows HTTP or a terminal: the server chooses the status and the CLI the exit code, each
in one place.
"""

from __future__ import annotations

from typing import Literal


class TwinlensError(Exception):
    """An expected failure; `message` can be shown to the user.

    `field` names the faulty input (`images[3]`, `--precision`); `code` is a stable identifier for
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
    """An invalid input; the message says what is valid."""

    code = "invalid_value"


class TooLargeError(InputError):
    """An input exceeds a limit; the message names the limit."""

    code = "too_large"


class ImageError(InputError):
    """Data that cannot be decoded as an image."""

    code = "image_decode_failed"


class NotFoundError(InputError):
    """A name that does not exist; the message lists the existing ones."""

    code = "not_found"


class ConflictError(InputError):
    """Two things do not match, such as a collection and a bundle of another revision."""

    code = "conflict"


class BundleError(InputError):
    """An unusable bundle: damaged, of unknown format, or different from its manifest."""

    code = "bundle_invalid"


class CollectionError(InputError):
    """An unusable collection: damaged, of unknown format, or different from its catalog."""

    code = "collection_invalid"


class StoreError(InputError):
    """A vector store that does not answer, or refuses what it is asked."""

    code = "store_unreachable"


class LockedError(ConflictError):
    """Another process is writing to the collection; only one writer at a time is allowed."""

    code = "locked"


class ReadOnlyError(ConflictError):
    """A collection in a folder that this process may not write to."""

    code = "read_only"


class MissingDependencyError(InputError):
    """An optional library is not installed; the message has the install command."""

    code = "missing_dependency"


class DeviceError(TwinlensError):
    """A device that is full (`kind` "full": smaller batches may fit) or lost (`kind` "lost")."""

    def __init__(self, message: str, *, kind: Literal["full", "lost"]) -> None:
        super().__init__(message, code=f"device_{kind}")
        self.kind = kind


class PullError(InputError):
    """A model that could not be pulled; `code` says why: gated, unreachable, damaged, disk_full."""

    code = "pull_failed"


class OverloadedError(TwinlensError):
    """The server is at capacity; retry after `retry_after` seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
