"""Opens the page of a server in the user's browser, once the server answers."""

from __future__ import annotations

import socket
import threading
import time
from typing import Annotated

import typer

OpenPage = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]
_PATIENCE = 60.0  # seconds
_PAUSE = 0.1


def open_when_ready(listener: socket.socket, scheme: str) -> threading.Thread:
    """Open the page in the browser as soon as the socket accepts connections."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # every address, so this one
        host = "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    waiter = threading.Thread(
        target=_wait_and_open,
        args=(host, port, f"{scheme}://{shown}:{port}/"),
        name="open-page",
        daemon=True,
    )
    waiter.start()
    return waiter


def _wait_and_open(host: str, port: int, url: str) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(_PAUSE)
            continue
        typer.launch(url)
        return
