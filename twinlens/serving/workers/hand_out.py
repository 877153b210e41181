"""Passes each new connection to the HTTP process that has the fewest.

What must stay true: an accepted connection is passed on while any HTTP process lives; if a process
ends, its successor takes the connections that it had not taken.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time

from twinlens.serving.workers.family import Family

_AT_ONCE = 64  # connections accepted before other work gets a turn
_PAUSE_SECONDS = 0.1  # when no descriptors are left
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class ConnectionDealer:
    """Accepts connections and passes them on."""

    def __init__(self, family: Family, listener: socket.socket) -> None:
        self._family = family
        self._listener = listener
        # A datagram carries one descriptor; both ends stay open here.
        self.inboxes = [
            socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(family.workers)
        ]
        for ours, _ in self.inboxes:
            ours.setblocking(False)
        self._passed = [0] * family.workers
        self._not_before = 0.0

    @property
    def sockets(self) -> list[socket.socket]:
        """Every socket of the keeper's side."""
        return [self._listener, *(ours for ours, _ in self.inboxes)]

    def listen(self) -> None:
        """Accept from now on."""
        self._listener.setblocking(False)
        self._listener.listen(2048)

    def forget(self, index: int) -> None:
        """Count an HTTP process that has ended as one without connections."""
        self._passed[index] = 0
        self._family.write_closed(index, 0)

    def deal(self, ready: set[int]) -> None:
        """Accept the waiting connections, and pass each on."""
        if time.monotonic() < self._not_before:
            return
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._not_before = time.monotonic() + _PAUSE_SECONDS
                return
            with connection:
                self._pass(connection, ready)

    def _pass(self, connection: socket.socket, ready: set[int]) -> None:
        """Pass a connection to the process with the fewest connections that can take it."""
        counts = [
            (passed - self._family.read_closed(index), index)
            for index, passed in enumerate(self._passed)
        ]
        for _, index in sorted(counts, key=lambda one: (one[1] not in ready, one[0])):
            with contextlib.suppress(BlockingIOError):
                socket.send_fds(self.inboxes[index][0], [b"c"], [connection.fileno()])
                self._passed[index] += 1
                return
