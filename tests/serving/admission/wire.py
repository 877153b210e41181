"""Raw sockets: what is sent byte for byte, and the answers that come back."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import NamedTuple


class Answer(NamedTuple):
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


def read_answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return the next answer on a connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(1)
        assert chunk, f"the connection ended after {data!r}"
        data += chunk
    lines = data.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    body = b""
    while len(body) < (length := int(headers["content-length"])):
        body += sock.recv(length - len(body))
    return int(lines[0].split()[1]), headers, body


def exchange(server: object, *segments: bytes, pause: float = 0.05) -> list[Answer]:
    """Send segments one after the other and return every answer until the connection is idle."""
    with server.connect() as sock:  # type: ignore[attr-defined]
        for segment in segments:
            try:
                sock.sendall(segment)
            except OSError:
                break  # the server has closed; what it said is still to be read
            time.sleep(pause)
        return split_answers(read_all(sock, 0.25))


def read_all(sock: socket.socket, patience: float) -> bytes:
    """Return what comes until the connection ends, or is silent for so long after its answer.

    The answer itself may take longer: a busy machine is no silent server.
    """
    sock.settimeout(max(patience, 3.0))
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
            sock.settimeout(patience)
    except OSError:
        pass
    return data


def split_answers(data: bytes) -> list[Answer]:
    """Return the answers in what a server sent; interim ones (100) are passed over."""
    answers = []
    while data:
        head, mark, rest = data.partition(b"\r\n\r\n")
        assert mark and head.startswith(b"HTTP/1."), f"not an answer: {data[:200]!r}"
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        body, data = _take_body(rest, headers, status)
        if status != 100:
            answers.append(Answer(status, headers, body))
    return answers


def statuses(answers: Sequence[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def _take_body(rest: bytes, headers: dict[str, str], status: int) -> tuple[bytes, bytes]:
    if status in (100, 204, 304):
        return b"", rest
    length = int(headers["content-length"])
    assert len(rest) >= length, "the answer was cut off"
    return rest[:length], rest[length:]
