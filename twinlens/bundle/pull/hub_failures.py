"""Failures of a hub, in one line: what, where, and what to do about it.

What must stay true: a token never appears in a message.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from twinlens.errors import NotFoundError, PullError, TwinlensError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Asked:
    """What was requested from which hub: the words of a message."""

    endpoint: str
    repository: str  # OWNER/NAME
    revision: str = ""
    path: str = ""  # a file, or empty for the listing

    @property
    def what(self) -> str:
        """The repository as a user writes it, and the file if one was requested."""
        source = f"hf:{self.repository}" + (f"@{self.revision}" if self.revision else "")
        return f"{self.path!r} of {source}" if self.path else source


def explain_failure(error: Exception, asked: Asked) -> Exception:
    """Return the error that a user can act on; the error itself if it is a bug of ours."""
    if isinstance(error, TwinlensError):
        return error
    if is_disk_full(error):
        return describe_full_disk(asked.what)
    for link in _unwind(error):
        if isinstance(link, OSError) and link.filename:
            return describe_unwritable(link, "HF_HOME")
    for link in _unwind(error):
        named = _explain_by_name(link, asked)
        if named is not None:
            return named
    if not any(_is_of_network(link) for link in _unwind(error)):
        return error
    return PullError(
        f"{asked.endpoint} could not be reached for {asked.what} ({_shorten(error)}); check the"
        " network, HF_ENDPOINT and proxies, then run this again: downloaded parts are kept",
        code="unreachable",
    )


def describe_full_disk(what: str) -> PullError:
    """Return the error of a full disk."""
    return PullError(
        f"no space left on the disk while {what} was pulled; free some, or point HF_HOME and"
        " TWINLENS_CACHE to a larger disk, then run this again",
        code="disk_full",
    )


def describe_unwritable(error: OSError, remedy: str) -> PullError:
    """Return the error of a path on this disk that cannot be used."""
    return PullError(
        f"{error.filename} cannot be used ({error.strerror}); point {remedy} to a folder that can"
        " be written to",
        code="not_writable",
    )


def describe_offline(asked: Asked, reason: str) -> PullError:
    """Return the error of a model that is neither cached nor reachable."""
    return PullError(
        f"{asked.what} is not in the cache, and {reason}; pull it once where {asked.endpoint} can"
        " be reached",
        code="unreachable",
    )


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error, or its cause, is a full disk."""
    return any(isinstance(link, OSError) and link.errno in _FULL for link in _unwind(error))


def _unwind(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_network(error: BaseException) -> bool:
    """Return whether the system, the client or its HTTP library (httpx, httpx2) raised it."""
    return isinstance(error, OSError) or type(error).__module__.startswith(("httpx", "httpcore"))


def _explain_by_name(error: BaseException, asked: Asked) -> TwinlensError | None:
    """Return our error for one of the client's, or None if it says too little."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return describe_offline(asked, "HF_HUB_OFFLINE is set")
    if isinstance(error, errors.GatedRepoError):
        return _describe_gated(asked, error.response.status_code)
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFoundError(
            f"revision {asked.revision or 'main'!r} of hf:{asked.repository} does not exist; its"
            f" branches and tags are at {asked.endpoint}/{asked.repository}/tree/main",
            field="revision",
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return NotFoundError(f"{asked.what} does not exist on {asked.endpoint}", field="source")
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_by_status(error.response.status_code, asked)
    return None


def _explain_by_status(status: int, asked: Asked) -> TwinlensError:
    if status in (401, 404):
        hidden = " or is private" if not _has_token() else ", or HF_TOKEN may not see it"
        return NotFoundError(
            f"{asked.what} does not exist on {asked.endpoint}{hidden}; check the name"
            + ("" if _has_token() else ", or set HF_TOKEN (or run: hf auth login)"),
            field="source",
        )
    if status == 403:
        return _describe_gated(asked, status)
    if status == 429:
        return PullError(
            f"{asked.endpoint} allows no more requests for now (429, {asked.what}); wait some"
            " minutes, or set HF_TOKEN for a higher limit",
            code="unreachable",
        )
    return PullError(
        f"{asked.endpoint} answered {status} for {asked.what}; try again later",
        code="unreachable",
    )


def _describe_gated(asked: Asked, status: int) -> PullError:
    page = f"{asked.endpoint}/{asked.repository}"
    remedy = (
        f"this HF_TOKEN has no access: accept the terms at {page} with its account"
        if _has_token() or status == 403
        else f"accept the terms at {page}, then set HF_TOKEN (or run: hf auth login)"
    )
    return PullError(f"{asked.what} is gated ({status}); {remedy}", code="gated")


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _shorten(error: Exception) -> str:
    """Return the first line of a foreign message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else f"{text[:117]}..."
