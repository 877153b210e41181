"""The processes as the keeper sees them: each forked from it, with a socket pair of its own.

The keeper has one thread and no event loop, so that a fork is safe at any time. What must stay
true: a child holds no end of another one's socket pair, so that the end of a process is noticed;
the keeper never waits for a process that does not read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import orjson

from twinlens.serving.workers.items.frames import FrameKind, FrameReader, write_frame

log = logging.getLogger("twinlens.serving")

_LONGEST_NAME = 15  # of a process, to the kernel

Main = Callable[[socket.socket], None]


class Member:
    """One running process."""

    def __init__(self, kind: str, index: int, pid: int, end: socket.socket) -> None:
        self.kind = kind
        self.index = index
        self.pid = pid
        self.end = end
        self.began = time.monotonic()
        self.heard = time.monotonic()
        self.is_ready = False
        self.is_stopping = False
        self.faults: list[str] = []
        self.counted: list[Any] = []  # its metrics when they were last asked for
        self._reader = FrameReader()
        self._unsent = b""

    @property
    def name(self) -> str:
        """What logs call it."""
        return f"{self.kind} process {self.index} ({self.pid})"

    @property
    def has_unsent(self) -> bool:
        """Whether it has still to read what was sent."""
        return bool(self._unsent)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, now or as soon as it reads."""
        self._unsent += write_frame(FrameKind.MESSAGE, orjson.dumps(message))
        self.flush()

    def flush(self) -> None:
        """Send what fits."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                try:
                    sent = self.end.send(self._unsent)
                except (BrokenPipeError, ConnectionResetError):  # its end is noticed elsewhere
                    self._unsent = b""
                    return
                self._unsent = self._unsent[sent:]

    def receive(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that have arrived."""
        self.heard = time.monotonic()
        while True:
            try:
                data = self.end.recv(1 << 18)
            except (BlockingIOError, ConnectionResetError):
                return
            if not data:
                return
            for _, payload in self._reader.feed(data):
                yield orjson.loads(payload)

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def fork_member(kind: str, index: int, main: Main, foreign: Iterable[socket.socket]) -> Member:
    """Start a process that runs `main`; `foreign` are the sockets that it must close."""
    ours, theirs = socket.socketpair()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid == 0:
        _run_child(kind, main, theirs, (*foreign, ours))
    theirs.close()
    ours.setblocking(False)
    return Member(kind, index, pid, ours)


def _run_child(
    kind: str, main: Main, end: socket.socket, foreign: Iterable[socket.socket]
) -> NoReturn:
    """Run the child process; it ends here and never returns into the keeper's code."""
    status = 1
    try:
        with contextlib.suppress(OSError):  # for ps and top
            Path("/proc/self/comm").write_text(f"twinlens-{kind}"[:_LONGEST_NAME])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the keeper says when to end
        signal.set_wakeup_fd(-1)
        for one in foreign:
            one.close()
        main(end)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        log.exception("a process of the server failed")
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(status)
