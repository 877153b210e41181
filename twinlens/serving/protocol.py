"""HTTP with the door in it: what has no room is answered as soon as its headers are in.

Nothing is made for such a request, neither a task nor a scope nor room for its body, which is
passed over as it arrives. It stands on uvicorn's httptools protocol and does what the surrounding
layer would do with the same request; tests hold the two answers to be the same.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from twinlens.serving.middleware import Surround

_STATUS = b"HTTP/1.1 429 Too Many Requests\r\n"


class DoorProtocol(HttpToolsProtocol):
    """Refuses on its own; leaves everything else to the application."""

    surround: Surround
    is_refused = False  # the request whose body is arriving

    def on_headers_complete(self) -> None:
        """Answer at once, or go on as ever."""
        answer = None
        if self.cycle is None or self.cycle.response_complete:
            method = self.parser.get_method().decode("ascii")
            answer = self.surround.turn_away(method, self.url, self.headers)
        if answer is None:
            super().on_headers_complete()
        else:
            self.is_refused = True
            self._refuse(*answer)

    def on_body(self, body: bytes) -> None:
        """Pass over what was refused."""
        if not self.is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next request."""
        if not self.is_refused:
            super().on_message_complete()
        self.is_refused = False

    def data_received(self, data: bytes) -> None:
        """Read on; a connection whose refused body stops coming ends like an idle one."""
        super().data_received(data)
        if self.is_refused and self.timeout_keep_alive_task is None and self.parser:
            self.on_response_complete()

    def _refuse(self, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        closes = self.expect_100_continue or not self.parser.should_keep_alive()
        lines = [_STATUS]
        for name, value in (*self.server_state.default_headers, *headers):
            lines += (name, b": ", value, b"\r\n")
            closes = closes or name == b"connection"
        self.transport.write(b"".join((*lines, b"\r\n", body)))
        if closes:
            self.transport.close()
        self.on_response_complete()


def build_protocol(surround: Surround) -> type[HttpToolsProtocol]:
    """Return the protocol of a server around this application."""
    return type("BoundDoorProtocol", (DoorProtocol,), {"surround": surround})
