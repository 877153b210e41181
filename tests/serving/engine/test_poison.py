"""More than two hundred bad images through the real decoder, alone and among good ones.

Each may fail only its own item: no 5xx, no hang, and the rest of its batch gets the same bytes as
without it.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from twinlens.bundle.encoder import open_bundle
from twinlens.bundle.image import image_source
from twinlens.serving.settings import Limits, ServerSettings

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def encode(kind: str, mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    noise = np.random.default_rng(5).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(width: int, height: int, depth: int = 8, colour: int = 2, body: bytes = b"") -> bytes:
    """Return a PNG with an arbitrary header."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", body or zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def bad_images() -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes that no decoder should accept."""
    rng = np.random.default_rng(11)
    whole = {kind: encode(kind) for kind in KINDS}
    for kind, content in whole.items():
        for part in range(14):
            yield f"{kind} cut {part}/16", content[: len(content) * part // 16]
        for head in (2, 4, 8, 16, 24, 32, 48):
            noise = rng.integers(0, 256, 400, dtype=np.uint8).tobytes()
            yield f"{kind} {head} bytes then noise", content[:head] + noise
        yield f"{kind} twice its header", content[:20] + content[:20]
        yield f"{kind} zeros after its header", content[:30] + bytes(300)
    for side in (1_000, 5_000, 20_000, 65_535, 200_000, 2**31 - 1):
        yield f"PNG bomb {side}", png_of(side, side)
        yield f"PNG bar {side}", png_of(min(side * 40, 2**31 - 1), 60)
    yield "PNG true bomb", png_of(30_000, 30_000, body=zlib.compress(bytes(3_000_000), 9))
    for width, height in ((0, 5), (5, 0), (0, 0)):
        yield f"PNG {width}x{height}", png_of(width, height)
    for depth, colour in ((3, 2), (8, 1), (8, 5), (16, 3), (0, 0), (99, 6)):
        yield f"PNG depth {depth} colour {colour}", png_of(4, 4, depth, colour)
    for width, height in ((0xFFFF, 0xFFFF), (60_000, 2_000)):
        yield (
            f"GIF screen {width}x{height}",
            b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 20,
        )
    others = {
        "html": b"<html><body>404</body></html>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pdf": b"%PDF-1.7\n1 0 obj",
        "zip": b"PK\x03\x04" + bytes(50),
        "gzip": b"\x1f\x8b\x08" + bytes(50),
        "elf": b"\x7fELF" + bytes(50),
        "mp4": b"\0\0\0\x18ftypmp42" + bytes(50),
        "avif": b"\0\0\0\x1cftypavif" + bytes(50),
        "tiff": b"II*\0" + bytes(50),
        "ico": b"\0\0\1\0" + bytes(50),
        "psd": b"8BPS" + bytes(50),
        "fits": b"SIMPLE  =" + bytes(50),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "ppm": b"P6 3 3 255\n" + bytes(27),
        "pickle": b"\x80\x04\x95" + bytes(50),
        "npy": b"\x93NUMPY" + bytes(50),
        "text": b"just a text",
        "space": b" " * 99,
        "zeros": bytes(999),
        "empty": b"",
    }
    yield from others.items()
    for length in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597):
        yield f"noise {length}", rng.integers(0, 256, length, dtype=np.uint8).tobytes()
    for i in range(25):
        yield (
            f"jpeg marker noise {i}",
            b"\xff\xd8\xff" + rng.integers(0, 256, 60, dtype=np.uint8).tobytes(),
        )


BAD = dict(bad_images())
BAD_TEXTS = [
    "",
    "A",
    "%%%%",
    "not base64 at all",
    "data:",
    "data:,",
    "data:image/png",
    "data:image/png;base64",
    "data:image/png;base64,",
    "data:image/png;base64,@@@@",
    "data:image/png,rawbytes",
    "data:text/html;base64,PGh0bWw+",
    "data:image/png;base64,data:image/png;base64,AAAA",
    "AAAA\nAAAA",
    "ÄÖÜ=",
    "\ud800",
    "\0\0\0\0",
    "/etc/passwd",
    "C:\\windows\\win.ini",
]


@pytest.fixture(scope="module")
def good() -> list[bytes]:
    return [encode("JPEG"), encode("PNG", size=(90, 20)), encode("WEBP", size=(31, 77))]


@pytest.fixture
def served(make_client: Callable[..., TestClient], toy_bundle: Path) -> TestClient:
    limits = Limits(image_pixels=4_000_000, request_pixels=40_000_000)
    return make_client(
        ServerSettings(limits=limits),
        opener=lambda source, precision: open_bundle(toy_bundle, threads=1),
    )


def embed(client: TestClient, images: list[bytes]) -> Any:
    return client.post("/embed", files=[("images", (str(i), b)) for i, b in enumerate(images)])


def test_there_are_enough_bad_images() -> None:
    assert len(BAD) + len(BAD_TEXTS) >= 200


def test_each_bad_image_alone_is_refused_and_the_server_stays_ready(served: TestClient) -> None:
    for name, content in BAD.items():
        answer = served.post("/embed", content=content, headers={"content-type": "image/jpeg"})
        assert answer.status_code in (400, 413), (name, answer.status_code, answer.text)
        error = answer.json()["error"]
        assert error["code"] in ("image_decode_failed", "too_large"), (name, error)
    assert served.get("/readyz").status_code == 200


def test_among_good_images_only_the_bad_one_fails_and_the_rest_are_identical(
    served: TestClient, good: list[bytes]
) -> None:
    clean = embed(served, good).json()["embeddings"]
    for i, (name, content) in enumerate(BAD.items()):
        place = i % (len(good) + 1)
        answer = embed(served, [*good[:place], content, *good[place:]])
        assert answer.status_code == 200, (name, answer.text)
        assert answer.headers["twinlens-failed-items"] == "1", name
        found = answer.json()["embeddings"]
        assert found.pop(place)["error"]["param"] == f"inputs[{place}]", name
        assert found == clean, name


def test_all_bad_images_at_once_do_not_affect_the_good_ones(
    served: TestClient, good: list[bytes]
) -> None:
    clean = embed(served, good).json()["embeddings"]
    bad = list(BAD.values())[:200]
    found = embed(served, [*bad, *good]).json()["embeddings"]
    assert all("error" in one for one in found[:200])
    assert np.allclose(found[200:], clean, atol=1e-6)


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_bad_base64_is_a_bad_image(served: TestClient, text: str) -> None:
    body = {"images": [text]}
    if text.isascii() or text == "ÄÖÜ=":
        answer = served.post("/embed", json=body)
    else:  # a lone surrogate cannot be UTF-8; JSON can spell it
        raw = b'{"images": ["\\ud800"]}'
        answer = served.post("/embed", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text


def odd_images() -> dict[str, bytes]:
    """Return unusual but valid images."""
    frames = [Image.new("RGB", (20, 20), c) for c in ((255, 0, 0), (0, 255, 0))]
    animated: dict[str, bytes] = {}
    for kind in ("GIF", "WEBP", "PNG"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        animated[f"animated {kind}"] = buffer.getvalue()
    deep = io.BytesIO()
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(deep, "PNG")
    return {
        **animated,
        "16 bit": deep.getvalue(),
        "CMYK": encode("JPEG", "CMYK"),
        "grey": encode("JPEG", "L"),
        "grey alpha": encode("PNG", "LA"),
        "alpha": encode("PNG", "RGBA"),
        "palette": encode("PNG", "P"),
        "one bit": encode("PNG", "1"),
        "progressive": encode("JPEG", progressive=True),
        "one pixel": encode("PNG", size=(1, 1)),
        "one pixel JPEG": encode("JPEG", size=(1, 1)),
        "a line": encode("PNG", size=(1, 3000)),
        "a bar": encode("JPEG", size=(3000, 2)),
        "data after the end": encode("JPEG") + b"<?php",
    }


@pytest.mark.parametrize("name", list(odd_images()))
def test_an_unusual_image_is_accepted(served: TestClient, name: str) -> None:
    answer = embed(served, [odd_images()[name]])
    assert answer.status_code == 200, answer.text
    row = np.array(answer.json()["embeddings"][0])
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)


def test_an_item_that_breaks_the_encoder_is_found_by_halving(
    client: TestClient, encoder: Any, image: Callable[..., bytes]
) -> None:
    encoder.fail_on = lambda pixels: bool(pixels[0, 0, 0] == 9)
    colours = [(i * 30, 0, 200) for i in range(7)]
    good = [image(colour) for colour in colours]
    clean = embed(client, good).json()["embeddings"]
    for place in range(8):
        answer = embed(client, [*good[:place], image((9, 9, 9)), *good[place:]])
        found = answer.json()["embeddings"]
        failed = found.pop(place)["error"]
        assert failed["code"] == "encode_failed"
        assert "secret" not in answer.text
        assert found == clean
    alone = embed(client, [image((9, 9, 9))])
    assert alone.status_code == 500
    assert alone.headers["x-should-retry"] == "false"
    assert "secret" not in alone.text


def test_an_output_that_is_not_finite_is_that_items_error(
    client: TestClient, encoder: Any, image: Callable[..., bytes]
) -> None:
    encoder.nan_on = lambda pixels: bool(pixels[0, 0, 0] == 9)
    good = [image((i, 0, 200)) for i in (30, 60)]
    clean = embed(client, good).json()["embeddings"]
    found = embed(client, [good[0], image((9, 9, 9)), good[1]]).json()["embeddings"]
    assert "not finite" in found.pop(1)["error"]["message"]
    assert found == clean


def test_any_exception_of_a_decoder_fails_one_item(
    client: TestClient, encoder: Any, image: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = encoder.preprocess

    def explode(opened: Any) -> Any:
        if opened.image.getpixel((0, 0))[:3] == (1, 2, 3):
            raise MemoryError("in /usr/lib/secret.so")
        return real(opened)

    bad = image((1, 2, 3))
    monkeypatch.setattr(encoder, "preprocess", explode)
    found = embed(client, [image(), bad]).json()["embeddings"]
    assert "error" not in found[0]
    assert "secret" not in found[1]["error"]["message"]


def test_the_header_of_an_image_is_read_once(
    client: TestClient, image: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []
    real = image_source._open_bytes

    def note(data: bytes, name: str, limits: Any) -> Any:
        opened.append(data)
        return real(data, name, limits)

    monkeypatch.setattr(image_source, "_open_bytes", note)
    pictures = [image((200, 10, 10)), image((10, 200, 10))]
    assert embed(client, pictures).status_code == 200
    assert sorted(opened) == sorted(pictures)


def test_base64_and_bytes_of_one_image_give_the_same_row(
    served: TestClient, good: list[bytes]
) -> None:
    coded = base64.b64encode(good[0]).decode()
    body = served.post("/embed", json={"images": [coded]}).json()
    assert body["embeddings"] == embed(served, good[:1]).json()["embeddings"]
