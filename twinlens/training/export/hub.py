"""Downloads from the model hub; if it does not respond, an error within seconds with the remedy.

By default, the hub's client retries for a minute before it gives up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeVar

import httpx

from twinlens.errors import InputError

T = TypeVar("T")

_PATIENCE: Final = 4.0  # seconds to wait for a response


def fetch(what: str, remedy: str, download: Callable[[], T]) -> T:
    """Return what `download` returns, from the network or the local cache.

    If both fail, an `InputError` names `what` and the `remedy`.
    """
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline or not is_reachable(constants.ENDPOINT)
    try:
        return download()
    except (OSError, RuntimeError, httpx.HTTPError) as error:
        reason = "the model hub cannot be reached" if constants.HF_HUB_OFFLINE else _shorten(error)
        raise InputError(f"{what} cannot be fetched: {reason}; {remedy}") from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def is_reachable(address: str) -> bool:
    """Return whether the hub responds; the environment's proxies are used."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    try:
        httpx.head(address, timeout=_PATIENCE)
    except httpx.HTTPError:
        return False
    return True


def _shorten(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
