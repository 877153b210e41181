"""Requests as RFC 9112 and RFC 9110 allow and forbid them, and a seeded generator of more.

Each case says which answers it may get; the generator knows how many requests it wrote at most.
"""

from __future__ import annotations

import random
from typing import NamedTuple

HOST = b"Host: x\r\n"
JSON = b"Content-Type: application/json\r\n"
BODY = b'{"texts": ["red"]}'
GET = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /embed HTTP/1.1\r\n" + HOST + JSON
SIZED = b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


class Case(NamedTuple):
    """Bytes, and the statuses that they are to be answered with."""

    name: str
    data: bytes
    expected: list[int]


def head(*lines: bytes, start: bytes = b"GET /healthz HTTP/1.1") -> bytes:
    return b"\r\n".join([start, b"Host: x", *lines, b"", b""])


def chunked(body: bytes) -> bytes:
    return POST + CHUNKED + body


CASES = [
    # the request line (RFC 9112, 3)
    Case("get", GET, [200]),
    Case("empty lines before a request", b"\r\n\r\n" + GET, [200]),
    Case("absolute form", GET.replace(b"/healthz", b"http://x/healthz"), [200]),
    Case("authority form", GET.replace(b"/healthz", b"x:80"), [400]),
    Case("asterisk form", GET.replace(b"GET /healthz", b"OPTIONS *"), [404]),
    Case("a fragment", GET.replace(b"/healthz", b"/healthz#x"), [200]),
    Case("a query", GET.replace(b"/healthz", b"/healthz?a=b&c=%20"), [200]),
    Case("an encoded path", GET.replace(b"/healthz", b"/%68ealthz"), [200]),
    Case("an encoded slash", GET.replace(b"/healthz", b"/..%2f..%2fetc/passwd"), [404]),
    Case("a path that is not UTF-8", GET.replace(b"/healthz", b"/%ff%fe"), [404]),
    Case("no target", b"GET HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    Case("no version", b"GET /healthz\r\n" + HOST + b"\r\n", [400]),
    Case("a space too many", GET.replace(b" HTTP", b"  HTTP"), [200]),
    Case("a tab for a space", GET.replace(b"GET ", b"GET\t"), [400]),
    Case("a space in the target", GET.replace(b"/healthz", b"/health z"), [400]),
    Case("a control in the target", GET.replace(b"/healthz", b"/health\x01z"), [400]),
    Case("a NUL in the target", GET.replace(b"/healthz", b"/health\x00z"), [400]),
    Case("bytes beyond ASCII in the target", GET.replace(b"/healthz", b"/\xc3\xa9"), [400]),
    Case("a method in small letters", GET.replace(b"GET", b"get"), [400]),
    Case("a method that nobody knows", GET.replace(b"GET", b"BREW"), [400]),
    Case("a method of another protocol", GET.replace(b"GET", b"PROPFIND"), [405]),
    Case("trace", GET.replace(b"GET", b"TRACE"), [405]),
    Case("connect", b"CONNECT x:443 HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    Case("another protocol's name", GET.replace(b"HTTP", b"HTTQ"), [400]),
    Case("ICY", b"GET /healthz ICY/1.0\r\n\r\n", [400]),
    Case("HTTP/0.9", b"GET /healthz\r\n\r\n", [400]),
    Case("HTTP/1.0", b"GET /healthz HTTP/1.0\r\n\r\n", [200]),
    Case("HTTP/1.2", GET.replace(b"1.1", b"1.2"), [400]),
    Case("HTTP/2.0", GET.replace(b"1.1", b"2.0"), [400]),
    Case("HTTP/11", GET.replace(b"1.1", b"11"), [400]),
    Case("HTTP/1.10", GET.replace(b"1.1", b"1.10"), [400]),
    Case("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00", [400]),
    Case("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), [400]),
    Case("a SOCKS hello", b"\x05\x01\x00", [400]),
    Case("SSH", b"SSH-2.0-client\r\n", [400]),
    Case("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", [400]),
    # fields (RFC 9112, 5; RFC 9110, 5)
    Case("no Host", b"GET /healthz HTTP/1.1\r\n\r\n", [400]),
    Case("an empty Host", b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", [200]),
    Case("two Hosts", head(b"Host: y"), [400]),
    Case("a Host with a path", GET.replace(b"Host: x", b"Host: x/y"), [400]),
    Case("a Host with a user", GET.replace(b"Host: x", b"Host: u@x"), [400]),
    Case("a Host with a space", GET.replace(b"Host: x", b"Host: x y"), [400]),
    Case("a Host of IPv6", GET.replace(b"Host: x", b"Host: [::1]:80"), [200]),
    Case("a field without a colon", head(b"A"), [400]),
    Case("a field without a name", head(b": x"), [400]),
    Case("a space before the colon", head(b"A : x"), [400]),
    Case("a space before the name", head(b" A: x"), [400]),
    Case("a folded line", head(b"A: x", b" y"), [400]),
    Case("a first field that is folded", b"GET /healthz HTTP/1.1\r\n Host: x\r\n\r\n", [400]),
    Case("an empty value", head(b"A:"), [200]),
    Case("spaces around a value", head(b"A: \t x \t "), [200]),
    Case("bytes beyond ASCII in a value", head(b"A: \xc3\xa9\xff"), [200]),
    Case("a NUL in a value", head(b"A: x\x00y"), [400]),
    Case("a control in a value", head(b"A: x\x01y"), [400]),
    Case("a bare CR in a value", head(b"A: x\rB: y"), [400]),
    Case("a bare LF after a value", head(b"A: x\nB: y"), [400]),
    Case("bare LFs alone", GET.replace(b"\r\n", b"\n"), [400]),
    Case("a NUL in a name", head(b"A\x00: x"), [400]),
    Case("a bracket in a name", head(b"A[]: x"), [400]),
    Case("bytes beyond ASCII in a name", head(b"\xc3\xa9: x"), [400]),
    Case("a hundred fields", head(*[b"A%d: x" % i for i in range(99)]), [200]),
    Case("a hundred and one", head(*[b"A%d: x" % i for i in range(100)]), [431]),
    Case("a large field", head(b"A: " + b"x" * 30_000), [200]),
    Case("a field too large", head(b"A: " + b"x" * 33_000), [431]),
    Case("a name too large", head(b"A" * 33_000 + b": x"), [431]),
    Case("a target too large", GET.replace(b"/healthz", b"/" + b"x" * 33_000), [431]),
    # bodies and their lengths (RFC 9112, 6)
    Case("a body", POST + SIZED, [200]),
    Case("a body with GET", head(b"Content-Length: 3") + b"abc", [200]),
    Case("no length", POST + b"\r\n", [400]),
    Case("a length of zero", POST + b"Content-Length: 0\r\n\r\n", [400]),
    Case("a length twice", POST + b"Content-Length: 18\r\n" + SIZED, [400]),
    Case("two lengths", POST + b"Content-Length: 5\r\n" + SIZED, [400]),
    Case("a list of lengths", POST + b"Content-Length: 18, 18\r\n\r\n" + BODY, [400]),
    Case("a length with a sign", POST + b"Content-Length: +18\r\n\r\n" + BODY, [400]),
    Case("a negative length", POST + b"Content-Length: -1\r\n\r\n" + BODY, [400]),
    Case("a length in hexadecimal", POST + b"Content-Length: 0x12\r\n\r\n" + BODY, [400]),
    Case("a length in words", POST + b"Content-Length: many\r\n\r\n" + BODY, [400]),
    Case("an empty length", POST + b"Content-Length:\r\n\r\n" + BODY, [400]),
    Case("a length with a point", POST + b"Content-Length: 18.0\r\n\r\n" + BODY, [400]),
    Case("a length with a space", POST + b"Content-Length: 1 8\r\n\r\n" + BODY, [400]),
    Case("a length over 2^64", POST + b"Content-Length: 18446744073709551634\r\n\r\n", [400]),
    Case("a length over the limit", POST + b"Content-Length: 99999999999\r\n\r\n", [413]),
    Case("both lengths", POST + b"Content-Length: 18\r\n" + CHUNKED + CHUNKS, [400]),
    Case("both lengths, turned", POST + CHUNKED[:-2] + SIZED, [400]),
    Case("chunks", chunked(CHUNKS), [200]),
    Case("chunks in capitals", chunked(CHUNKS).replace(b"chunked", b"CHUNKED"), [200]),
    Case("chunks, many", chunked(b"".join(b"1\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n"), [200]),
    Case("a chunk with leading zeros", chunked(b"000" + CHUNKS), [200]),
    Case("a chunk extension", chunked(CHUNKS.replace(b"12\r\n", b"12;a=b;c\r\n", 1)), [200]),
    Case("a quoted extension", chunked(CHUNKS.replace(b"12\r\n", b'12;a="b\r\n', 1)), [400]),
    Case("trailers", chunked(CHUNKS[:-2] + b"A: x\r\nB: y\r\n\r\n"), [200]),
    Case("a trailer that is a length", chunked(CHUNKS[:-2] + b"Content-Length: 3\r\n\r\n"), [400]),
    Case("a chunk without its size", chunked(b"\r\n" + CHUNKS), [400]),
    Case("a chunk of negative size", chunked(b"-1\r\n"), [400]),
    Case("a chunk in words", chunked(b"zz\r\n"), [400]),
    Case("a chunk with 0x", chunked(b"0x12\r\n"), [400]),
    Case("a chunk over 2^64", chunked(b"10000000000000012\r\n" + BODY), [400]),
    Case("a chunk longer than said", chunked(b"3\r\nabcd\r\n0\r\n\r\n"), [400]),
    Case("a chunk with bare LF", chunked(CHUNKS.replace(b"\r\n", b"\n")), [400]),
    Case("a space in a chunk's size", chunked(CHUNKS.replace(b"12\r\n", b"1 2\r\n", 1)), [400]),
    Case("gzip, chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, [400]),
    Case("chunked, gzip", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS, [400]),
    Case("chunked twice", POST + b"Transfer-Encoding: chunked\r\n" + CHUNKED + CHUNKS, [400]),
    Case("chunked, chunked", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS, [400]),
    Case("identity", POST + b"Transfer-Encoding: identity\r\n" + SIZED, [400]),
    Case("xchunked", POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS, [400]),
    Case("chunked with a tab", POST + b"Transfer-Encoding:\tchunked\r\n\r\n" + CHUNKS, [200]),
    Case("chunked with a vertical tab", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", [400]),
    Case("chunked in quotes", POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNKS, [400]),
    Case("chunked, folded", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS, [400]),
    Case("chunked in HTTP/1.0", chunked(CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0"), [400]),
    # connections (RFC 9112, 9; RFC 9110, 7.8 and 10.1.1)
    Case("two in one", GET + GET, [200, 200]),
    Case("a body, then another", POST + SIZED + GET, [200, 200]),
    Case("chunks, then another", chunked(CHUNKS) + GET, [200, 200]),
    Case("a fault, then another", b"nonsense\r\n\r\n" + GET, [400]),
    Case("another, then a fault", GET + b"nonsense\r\n\r\n" + GET, [200, 400]),
    Case("close, then another", head(b"Connection: close") + GET, [200]),
    Case(
        "keep-alive in HTTP/1.0", b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [200]
    ),
    Case("an upgrade", head(b"Connection: Upgrade", b"Upgrade: h2c") + GET, [200, 200]),
    Case("a WebSocket", head(b"Connection: Upgrade", b"Upgrade: websocket") + GET, [200, 200]),
    Case(
        "an upgrade with a body that reads like a request",
        POST
        + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(GET)
        + GET,
        [400],
    ),
    Case("100-continue", POST + b"Expect: 100-continue\r\n" + SIZED, [200]),
    Case("another expectation", POST + b"Expect: more\r\n" + SIZED, [200]),
]

STARTS = [
    b"GET /healthz HTTP/1.1",
    b"GET /v1/models HTTP/1.1",
    b"GET /nothing?x=%00 HTTP/1.1",
    b"DELETE /classifiers/none HTTP/1.1",
    b"OPTIONS /embed HTTP/1.1",
    b"POST /embed HTTP/1.1",
    b"POST /zeroshot HTTP/1.1",
    b"POST /nothing HTTP/1.1",
    b"PUT /classifiers/a%2fb HTTP/1.1",
]
FIELDS = [
    b"Accept: */*",
    b"Connection: keep-alive",
    b"Connection: Upgrade\r\nUpgrade: h2c",
    b"Connection: Upgrade\r\nUpgrade: websocket",
    b"Content-Type: application/json",
    b"Content-Type: text/plain",
    b"Content-Type: image/png",
    b"Content-Type: multipart/form-data; boundary=b",
    b"Cookie: " + b"c" * 300,
    b"Expect: 100-continue",
    b"Origin: http://other.test",
    b"Range: bytes=0-1",
    b"Te: trailers",
    b"Twinlens-Timeout: 5",
    b"X-Request-Id: some",
]
BODIES = [b"", BODY, b"{}", b"\x00" * 40, b"--b--\r\n", GET, POST + SIZED]
# What breaks a message; those in `REFRAMING` may also move where it ends.
DAMAGES = [
    (b"Host: x", b"Host: x\r\nHost: y"),
    (b"HTTP/1.1", b"HTTP/1.9"),
    (b"Host: x\r\n", b""),
    (b"\r\n", b"\n"),
    (b": ", b" : "),
    (b"\r\n\r\n", b"\r\nA\x00: x\r\n\r\n"),
    (b" /", b"  /"),
    (b"\r\n", b"\r\n folded: x\r\n"),
]
REFRAMING = [
    (b"Content-Length: ", b"Content-Length: 1"),
    (b"Content-Length: ", b"Content-Length: -"),
    (b"Content-Length", b"Content-Lengt"),
    (b"Content-Length", b"Transfer-Encoding: chunked\r\nContent-Length"),
    (b"chunked", b"chunkedd"),
    (b"chunked", b"gzip, chunked"),
    (b"\r\n0\r\n", b"\r\n-0\r\n"),
    (b"\r\n0\r\n", b"\r\nffffffffffffffff\r\n"),
    (b"\r\n\r\n", b"\r\n"),
]


class Stream(NamedTuple):
    """What one connection sends, in segments, and how many requests that can be."""

    segments: list[bytes]
    requests: int
    at_most: int  # answers


def make_stream(rng: random.Random) -> Stream:
    """Return up to four requests, some damaged, cut into segments at random."""
    count = rng.randint(1, 4)
    data, is_reframed = b"", False
    for _ in range(count):
        message = _make_message(rng)
        if rng.random() < 0.3:
            message = _replace(message, *rng.choice(DAMAGES))
        if rng.random() < 0.2:
            message = _replace(message, *rng.choice(REFRAMING))
            is_reframed = True
        if rng.random() < 0.05:
            place = rng.randrange(len(message))
            message = message[:place] + rng.randbytes(rng.randint(1, 4)) + message[place + 1 :]
            is_reframed = True
        data += message
    data += b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    at_most = data.count(b"HTTP/") if is_reframed else count + 1
    return Stream(_cut(rng, data), count + 1, at_most)


def _make_message(rng: random.Random) -> bytes:
    start = rng.choice(STARTS)
    lines = [start, b"Host: x", *rng.sample(FIELDS, rng.randint(0, 4))]
    body = rng.choice(BODIES)
    if rng.random() < 0.3:
        lines.append(b"Transfer-Encoding: chunked")
        body = _chunk(rng, body)
    elif body or start.startswith((b"POST", b"PUT")):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


def _chunk(rng: random.Random, body: bytes) -> bytes:
    pieces = []
    while body:
        size = rng.randint(1, len(body))
        extension = b";x=y" if rng.random() < 0.2 else b""
        pieces.append(b"%x%s\r\n%s\r\n" % (size, extension, body[:size]))
        body = body[size:]
    trailer = b"X-Late: x\r\n" if rng.random() < 0.2 else b""
    return b"".join(pieces) + b"0\r\n" + trailer + b"\r\n"


def _replace(message: bytes, old: bytes, new: bytes) -> bytes:
    return message.replace(old, new, 1)


def _cut(rng: random.Random, data: bytes) -> list[bytes]:
    places = sorted(rng.sample(range(1, len(data)), rng.choice((0, 0, 1, 3))))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
