"""Admission control in the HTTP protocol: a refusal is sent as soon as the headers are read.

A refused request gets no task, no scope and no buffer: its body is discarded as it arrives. It
answers as the middleware would answer the same request; tests check that the two answers are the
same.

What must stay true: the parser sees every byte, so that a refused body is never parsed as the
next request; and a client that is still sending when the connection closes can read its answer.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from twinlens.serving.admission.connection_timeouts import ConnectionTimeouts
from twinlens.serving.admission.controller import Reservation
from twinlens.serving.admission.http_connection import HttpConnection
from twinlens.serving.admission.middleware import RequestMiddleware
from twinlens.serving.call import name_client

_STATUS = b"HTTP/1.1 429 Too Many Requests\r\n"
_CLOSE = b"connection: close\r\n"


class AdmissionProtocol(HttpConnection):
    """Answers refusals itself; passes everything else to the application."""

    middleware: RequestMiddleware
    is_ending = False  # whether this connection closes without answering another request
    _address = ""  # the client, as shares are counted
    _reservation: Reservation | None = None  # of the request whose body is arriving

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the client's address."""
        super().connection_made(transport)
        self._address = name_client(self.client[0] if self.client else "")

    def begin_request(self) -> None:
        """Refuse at once, or continue as uvicorn does."""
        if self.is_ending:
            self.is_refused = True
            return
        if self.cycle is not None and not self.cycle.response_complete:
            super().begin_request()  # a pipelined request
            return
        method = self.parser.get_method().decode("ascii")
        answer = self.middleware.prepare_refusal(method, self.url, self.headers)
        if answer is not None:
            self._refuse(answer)
            return
        super().begin_request()
        self._reservation = self.middleware.acquire(method, self.headers, self._address)
        self.cycle.scope["state"]["reservation"] = self._reservation

    def finish_request(self) -> None:
        """Wait for the next request."""
        if not self.is_refused:
            if self._reservation is not None:
                self._reservation.try_arrive()
                self._reservation = None
            super().finish_request()
        elif self.is_ending:
            self.transport.close()
        self.is_refused = False

    def _refuse(self, answer: bytes) -> None:
        """Write an answer; a connection that has to close does so when the request has arrived."""
        self.is_refused = True
        if self.flow.write_paused:  # a client that keeps sending and reads no answers
            self.is_ending = True
            self.transport.abort()
            return
        self.is_ending = (
            self.expect_100_continue
            or self.middleware.is_draining
            or self.version == "1.0"
            or not self.parser.should_keep_alive()
        )
        lines = [_STATUS]
        for name, value in self.server_state.default_headers:
            lines += (name, b": ", value, b"\r\n")
        if self.is_ending:
            lines.append(_CLOSE)
        lines.append(answer)
        self._unanswered += 1
        self.transport.write(b"".join(lines))
        if self.is_ending and self.transport.can_write_eof():
            self.transport.write_eof()
        self.on_response_complete()


def build_protocol(middleware: RequestMiddleware) -> type[HttpToolsProtocol]:
    """Return the protocol class of a server with this middleware."""
    bound = {
        "middleware": middleware,
        "limits": middleware.service.settings.limits,
        "timeouts": ConnectionTimeouts(),
    }
    return type("BoundAdmissionProtocol", (AdmissionProtocol,), bound)
