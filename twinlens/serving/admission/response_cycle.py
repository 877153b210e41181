"""uvicorn's cycle of one request and its answer, with a cheaper start of the answer.

uvicorn searches every header of every answer with two regular expressions and writes head and body
apart. Here the joined lines are checked once, and most answers are one write. What must stay true:
no header value can add a line to an answer.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn._types import HTTPScope
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)


def make_scope(connection: HttpToolsProtocol, version: str) -> HTTPScope:
    """Return the ASGI scope of the request whose head a connection has read."""
    url = httptools.parse_url(connection.url)
    path = url.path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": connection.asgi_version, "spec_version": "2.3"},
        "http_version": version,
        "server": connection.server,
        "client": connection.client,
        "scheme": connection.scheme or "http",
        "method": connection.parser.get_method().decode("ascii"),
        "root_path": connection.root_path,
        "path": unquote(path) if "%" in path else path,
        "raw_path": url.path,
        "query_string": url.query or b"",
        "headers": connection.headers,
        "state": connection.app_state.copy(),
    }


class ResponseCycle(RequestResponseCycle):
    """Receives the body for the application and sends its answer."""

    _head = b""  # not sent yet: it goes out with the first part of the body

    async def send(self, message: Any) -> None:
        """Send a part of the answer."""
        if self.disconnected or self.access_log:
            await super().send(message)
        elif not self.response_started and message["type"] == "http.response.start":
            self.response_started = True
            self.waiting_for_100_continue = False
            self._head = self._write_head(message["status"], message.get("headers", ()))
        elif self._head and not self.flow.write_paused:
            await self._send_first(message)
        else:
            self._send_head()
            await super().send(message)

    async def _send_first(self, message: Any) -> None:
        """Send the head with the body, at once where that is all of the answer."""
        body = message.get("body", b"")
        is_whole = not message.get("more_body") and len(body) == self.expected_content_length
        if not is_whole or self.chunked_encoding is not False or self.scope["method"] == "HEAD":
            self._send_head()
            await super().send(message)
            return
        self.transport.write(self._head + body)
        self._head = b""
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _send_head(self) -> None:
        if self._head:
            self.transport.write(self._head)
            self._head = b""

    def _write_head(self, status: int, headers: Any) -> bytes:
        """Return the status line and headers, and note how the body is framed."""
        lines = [STATUS_LINE[status]]
        says_close = False
        for name, value in (*self.default_headers, *headers):
            name = name.lower()
            if name == b"content-length" and self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                says_close = True
            lines.append(b"%s: %s\r\n" % (name, value))
        if not self.keep_alive and not says_close:
            lines.append(b"connection: close\r\n")
        if (
            self.chunked_encoding is None
            and self.scope["method"] != "HEAD"
            and status not in (204, 304)
        ):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join(lines)
        if not head.count(b"\n") == head.count(b"\r") == len(lines) or b"\0" in head:
            raise RuntimeError("a header of the answer holds a line break or a NUL")
        return head + b"\r\n"
