"""One client's connection: each request gets at most one answer, or the connection closes.

uvicorn's httptools protocol may answer twice, out of turn, or a request that nobody sent; this
class prevents that. What must stay true: bytes of a body are never read as a request; a request
that cannot be understood is answered after those before it, and nothing behind it is read; a head
that is too large or too slow is cut off before it is kept.
"""

from __future__ import annotations

import asyncio
from itertools import chain

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from twinlens.serving.admission.connection_timeouts import ConnectionTimeouts
from twinlens.serving.admission.heads import find_fault, write_plain_head
from twinlens.serving.admission.prepared_responses import write_fault
from twinlens.serving.admission.response_cycle import ResponseCycle, make_scope
from twinlens.serving.requests.body import FloorRate
from twinlens.serving.settings import Limits

_LINGER_SECONDS = 1.0
_MOST_DISCARDED = 1 << 20  # bytes that a client may still send while it reads why it was cut off


class _FaultError(Exception):
    """Ends the parser from within one of its callbacks."""


class HttpConnection(HttpToolsProtocol):
    """Reads requests in order and answers each once."""

    limits: Limits
    timeouts: ConnectionTimeouts
    head_since: float | None = None  # when the head began that has not arrived
    idle_since: float | None = None  # when it was answered and the next request has not begun
    has_ended_reading = False  # nothing that arrives is read any more
    version = "1.1"  # of the request that was read last
    is_head = True  # a head is arriving, or nothing is
    is_refused = False  # whether the request whose body is arriving was refused
    _is_upgrade = False  # what the parser holds is to be read again, as plain HTTP
    _unanswered = 0  # requests that were handed to the application
    _fault = (400, "the request is not valid HTTP")
    _last_answer = b""  # to be sent when all before it is answered
    _discarded = 0
    _passed = 0  # bytes of a body that nobody reads
    _floor: FloorRate | None = None
    _loose_bytes = 0  # received since the last head, piece of a body, or end of a request
    _most_head_bytes = 0  # that a head which is complete now can have

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first head."""
        super().connection_made(transport)
        self.head_since = self.loop.time()
        self.timeouts.add(self, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop checking for timeouts."""
        self.timeouts.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data; data that the parser does not understand ends the connection.

        A connection whose refused body stops arriving is idle.
        """
        self.idle_since = None
        if self.has_ended_reading:
            self._discard(len(data))
            return
        self._loose_bytes += len(data)
        self._most_head_bytes = self._loose_bytes
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._parse_plainly(data[upgrade.args[0] :])
            if self._loose_bytes:
                self._check_loose_bytes()
        except (httptools.HttpParserError, _FaultError):
            if not self.has_ended_reading:
                self.end_reading(*self._fault)
        if self.is_refused and self.idle_since is None:
            self.idle_since = self.loop.time()

    def end_if_late(self, now: float) -> None:
        """Close an idle connection, or one whose head or unread body does not arrive in time."""
        if self.idle_since is not None and now - self.idle_since > self.timeout_keep_alive:
            self.timeout_keep_alive_handler()
            return
        if not self.is_head and self.is_answered:
            self._floor = self._floor or FloorRate(self.limits.body_rate, now)
            if self._floor.is_missed(now, self._passed):
                self.transport.close()
            return
        if self.head_since is None or now - self.head_since <= self.limits.head_seconds:
            return
        if self._loose_bytes and not self.has_ended_reading:
            self.end_reading(408, f"the head did not arrive within {self.limits.head_seconds:g} s")
        else:
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin a head; a scope is made for requests that the application answers."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one field of the head; a trailer comes too late to be one."""
        if self.is_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check what the parser leaves unchecked, and begin the request."""
        if self.has_ended_reading:
            raise _FaultError
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self.fail(400, "CONNECT is not answered here; this server is no proxy")
            self._is_upgrade = True
            return
        self.head_since = None
        self._loose_bytes = 0
        self._check_head()
        self._passed = 0
        self._floor = None
        self.begin_request()
        self.is_head = False

    def begin_request(self) -> None:
        """Hand the request to the application, now or in its turn."""
        scope = self.scope = make_scope(self, self.version)
        before = self.cycle
        self.cycle = ResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self.version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._unanswered += 1
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Buffer a piece of the body; discard it, up to the limit, if the request was answered."""
        self._loose_bytes = 0
        if not (self.is_refused or self.cycle.response_complete):
            self.cycle.body += body
            if len(self.cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            self.cycle.message_event.set()
            return
        self._passed += len(body)
        if self._passed > self.limits.body_bytes:
            self.transport.close()

    def on_message_complete(self) -> None:
        """Wait for the next request."""
        if self._is_upgrade:
            return
        self.is_head = True
        self._loose_bytes = 0
        self.finish_request()

    def finish_request(self) -> None:
        """Tell the application that the body is complete."""
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    @property
    def is_answered(self) -> bool:
        """Whether the request whose body arrives has its answer already."""
        return self.is_refused or self.cycle.response_complete

    def on_response_complete(self) -> None:
        """Start the next request, or send the last answer.

        uvicorn would set a timer for each.
        """
        self._unanswered -= 1
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            else:
                self.idle_since = self.loop.time()
        if self._last_answer and not self._unanswered:
            self._send_last_answer()

    def fail(self, status: int, message: str) -> None:
        """End the parser from within a callback; `end_reading` follows."""
        self._fault = (status, message)
        raise _FaultError

    def end_reading(self, status: int, message: str) -> None:
        """Stop reading; send the error once every earlier request is answered."""
        self.has_ended_reading = True
        if not self.is_head:
            if self.is_answered:
                self.transport.close()
                return
            self._drop_unfinished()
        self._last_answer = write_fault(status, message)
        if not self._unanswered:
            self._send_last_answer()

    def _drop_unfinished(self) -> None:
        """Drop the request whose body is faulty; close the connection if its answer has begun."""
        cycle = self.cycle
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
        elif cycle.response_started:
            self.transport.close()
        cycle.disconnected = True  # whatever it still answers is not sent
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        self._unanswered -= 1

    def _parse_plainly(self, data: bytes) -> None:
        """Parse a request for another protocol again as plain HTTP, with the data behind it.

        The parser takes all data behind such a head for the other protocol, the body too.
        """
        while True:
            self._is_upgrade = False
            method, version = self.parser.get_method(), self.parser.get_http_version()
            head = write_plain_head(method, self.url, version, self.headers)
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(head)
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]

    def _check_loose_bytes(self) -> None:
        """Refuse a head, or data between pieces of a body, that exceeds the limit."""
        if self._loose_bytes > self.limits.head_bytes:
            self._refuse_head()
        if self.is_head and self.head_since is None:
            self.head_since = self.loop.time()

    def _refuse_head(self) -> None:
        self.fail(
            431,
            f"the head is larger than the limit of {self.limits.head_bytes} bytes and "
            f"{self.limits.head_fields} fields",
        )

    def _check_head(self) -> None:
        """Refuse a head that is too large, or that two servers could read in two ways."""
        headers, limits = self.headers, self.limits
        if len(headers) > limits.head_fields or (
            self._most_head_bytes > limits.head_bytes
            and len(self.url) + 4 * len(headers) + sum(map(len, chain.from_iterable(headers)))
            > limits.head_bytes
        ):
            self._refuse_head()
        self.version = self.parser.get_http_version()
        fault = find_fault(headers, self.version)
        if fault:
            self.fail(400, fault)

    def _send_last_answer(self) -> None:
        """Send the last answer, and close a moment later, so that the client can read it."""
        if self.transport.is_closing():
            return
        lines = [b"%s: %s\r\n" % line for line in self.server_state.default_headers]
        status, _, rest = self._last_answer.partition(b"\r\n")
        self._last_answer = b""
        self.transport.write(b"".join([status, b"\r\n", *lines, rest]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.timeout_keep_alive_handler)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > _MOST_DISCARDED:
            self.transport.abort()
