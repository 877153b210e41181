"""Receives the bytes of one file, from where an earlier try stopped, with progress.

What must stay true: received bytes are on disk before more are requested; a bar is drawn only on a
terminal, other outputs get occasional lines.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

Tell = Callable[[str], None]

_SECONDS = 30.0  # seconds without a byte
_TRIES = 5  # tries without a new byte
_PAUSE_SECONDS = 1.0
_LINE_SECONDS = 10.0


class Progress:
    """Shows the progress of a file: a bar on a terminal, lines elsewhere."""

    def __init__(self, name: str, size: int, tell: Tell) -> None:
        self._name = name
        self._size = size
        self._tell = tell
        self._shown = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

            bar: Any = tqdm
            self._bar = bar(total=size, desc=name, unit="B", unit_scale=True)

    def show(self, have: int) -> None:
        """Show that `have` bytes have arrived."""
        if self._bar is not None:
            self._bar.update(have - self._bar.n)
        elif time.monotonic() - self._shown > _LINE_SECONDS:
            self._shown = time.monotonic()
            self._tell(f"{self._name}: {have / 1e6:.0f} of {self._size / 1e6:.0f} MB")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def receive(url: str, partial: Path, size: int, progress: Progress) -> None:
    """Append the missing bytes of `size` to `partial`; reconnect after a broken connection.

    The address is the hub's; if it redirects to another host, no token is sent there.
    """
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers: dict[str, str] = build_hf_headers()
    headers["Accept-Encoding"] = "identity"
    with partial.open("ab") as target:
        most, tries = target.tell(), _TRIES
        while target.tell() < size and tries:
            try:
                _append(url, headers, target, progress)
            except OSError:  # a refusal of the hub, or the disk
                raise
            except Exception as error:
                if tries == 1 or not type(error).__module__.startswith("httpx"):
                    raise
                time.sleep(_PAUSE_SECONDS)
            tries = _TRIES if target.tell() > most else tries - 1
            most = max(most, target.tell())


def _append(url: str, headers: dict[str, str], target: BinaryIO, progress: Progress) -> None:
    """Append the body of one response."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    have = target.tell()
    asked = headers | ({"Range": f"bytes={have}-"} if have else {})
    with get_session().stream("GET", url, headers=asked, timeout=_SECONDS) as answer:
        if have and answer.status_code in (200, 416):  # the whole file, or less than we have
            target.seek(0)
            target.truncate()
        if answer.status_code == 416:
            return
        hf_raise_for_status(answer)
        for chunk in answer.iter_bytes():
            target.write(chunk)
            progress.show(target.tell())
